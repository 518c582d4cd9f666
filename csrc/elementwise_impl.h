/* elementwise_impl.h - a row of values in place: any activation, softmax. Included by kernels_impl.h. */

static void activate(lf_activation activation, int64_t n, void *x) {
    real *value = x;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(value + i, v_activate(activation, v_load(value + i)));
    if (i < n) {
        real tail[LANES] = {0};
        for (int64_t k = i; k < n; k++)
            tail[k - i] = value[k];
        v_store_n(value + i, v_activate(activation, v_load(tail)), (int)(n - i));
    }
}

#ifdef LF_REAL_IS_DOUBLE
static void exp_of_nonpositives(int64_t n, real *x) {
    for (int64_t i = 0; i < n; i++)
        x[i] = exp(x[i]);
}
#else
static void exp_of_nonpositives(int64_t n, real *x) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        v_store(x + i, v_exp_of_nonpositive(v_load(x + i)));
    if (i < n) {
        real tail[LANES] = {0};
        memcpy(tail, x + i, (size_t)(n - i) * sizeof(real));
        v_store_n(x + i, v_exp_of_nonpositive(v_load(tail)), (int)(n - i));
    }
}
#endif

/* NaN only if the first is; the sum meets any other. */
static real largest_of(int64_t n, const real *x) {
    vec most = v_set1(x[0]);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        most = v_max(v_load(x + i), most);
    real lane[LANES], largest = x[0];
    v_store(lane, most);
    for (int k = 0; k < LANES; k++)
        largest = lane[k] > largest ? lane[k] : largest;
    for (; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}

/* In double, the same on every instruction set: WAYS sums side by side, then one after the other. */
static double sum_of(int64_t n, const real *x) {
    enum { WAYS = 16 };
    double part[WAYS] = {0}, total = 0;
    int64_t i = 0;
    for (; i + WAYS <= n; i += WAYS)
        for (int k = 0; k < WAYS; k++)
            part[k] += x[i + k];
    for (int k = 0; i < n; i++, k++)
        part[k] += x[i];
    for (int k = 0; k < WAYS; k++)
        total += part[k];
    return total;
}

/* Shifted by the largest value. A NaN reaches every output. */
static void softmax(int64_t n, int log_of_it, void *x, void *scratch) {
    real *value = x, *e = scratch;
    const real largest = largest_of(n, value);
    for (int64_t i = 0; i < n; i++)
        e[i] = value[i] -= largest;
    exp_of_nonpositives(n, e);
    const double total = sum_of(n, e);
    if (log_of_it) {
        const double log_total = log(total);
        for (int64_t i = 0; i < n; i++)
            value[i] = (real)(value[i] - log_total);
    } else {
        const double share = 1 / total;
        for (int64_t i = 0; i < n; i++)
            value[i] = (real)(e[i] * share);
    }
}
