/* vmath_impl.h - activations on vectors; the text is shared by every instruction set.
 *
 * v_min(a, b) and v_max(a, b) return b when either is NaN, on every ISA: limits go first, so NaN passes through.
 *
 * float: sigmoid and tanh rest on one reduction, e^u = 2^n (1 + p), u = n ln2 + r, p = e^r - 1 for |r| <= ln2 / 2.
 * p = r + r^2 q(r) with q the degree-4 minimax fit of (e^r - 1 - r) / r^2: relative error of p below 1.8e-8 (0.3 ulp).
 * ln2 is split (Cody & Waite 1980) so that n * LN2_HIGH is exact.
 * double: one value at a time by libm, as are the rarer activations in float (rounded once from double).
 */
#include <math.h>
#include <string.h>

#ifdef LF_REAL_IS_DOUBLE

static inline vec v_lanes(lf_activation activation, vec x) {
    real lane[LANES];
    v_store(lane, x);
    for (int i = 0; i < LANES; i++)
        lane[i] = lf_activation_value(activation, lane[i]);
    return v_load(lane);
}
static inline vec v_sigmoid(vec x) { return v_lanes((lf_activation){LF_SIGMOID, 0, 0}, x); }
static inline vec v_tanh(vec x) { return v_lanes((lf_activation){LF_TANH, 0, 0}, x); }

#else

#define LOG2_E 1.44269504f
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#define ROUNDER 12582912.0f /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */

/* e^u = scale * (1 + p) for u in [-88, 20] */
static inline void v_exp_parts(vec u, vec *scale, vec *p) {
    const vec shifted = v_fma(u, v_set1(LOG2_E), v_set1(ROUNDER));
    const vec n = v_sub(shifted, v_set1(ROUNDER));
    vec r = v_fma(n, v_set1(-LN2_HIGH), u);
    r = v_fma(n, v_set1(-LN2_LOW), r);
    vec q = v_fma(v_set1(0x1.6bebfap-10f), r, v_set1(0x1.1227b0p-7f));
    q = v_fma(q, r, v_set1(0x1.555674p-5f));
    q = v_fma(q, r, v_set1(0x1.5554b0p-3f));
    q = v_fma(q, r, v_set1(0x1.fffffep-2f));
    *p = v_fma(v_mul(r, r), q, r);
    *scale = v_pow2(shifted);
}

/* e^x for x <= 0. At -88 the scale 2^-127 is flushed to zero, the right limit with FTZ. */
static inline vec v_exp_of_nonpositive(vec x) {
    vec scale, p;
    v_exp_parts(v_max(v_set1(-88.0f), x), &scale, &p);
    return v_fma(scale, p, scale);
}

/* 1 / (1 + e^-x) by e = e^-|x|, which cannot overflow: x < 0 gives e / (1 + e). */
static inline vec v_sigmoid(vec x) {
    const vec e = v_exp_of_nonpositive(v_sub(v_set1(0.0f), v_abs(x)));
    const vec one = v_set1(1.0f);
    return v_div(v_if_negative(x, e, one), v_add(one, e));
}

/* m / (m + 2) with m = e^2|x| - 1; beyond |x| = 10 the quotient is 1 in float. m keeps its relative accuracy down to
 * zero, since the subtraction 2^n - 1 is exact. */
static inline vec v_tanh(vec x) {
    const vec a = v_min(v_set1(10.0f), v_abs(x));
    vec scale, p;
    v_exp_parts(v_add(a, a), &scale, &p);
    const vec m = v_fma(scale, p, v_sub(scale, v_set1(1.0f)));
    return v_copysign(v_div(m, v_add(m, v_set1(2.0f))), x);
}

static inline vec v_lanes(lf_activation activation, vec x) {
    real lane[LANES];
    v_store(lane, x);
    for (int i = 0; i < LANES; i++)
        lane[i] = (real)lf_activation_value(activation, lane[i]);
    return v_load(lane);
}

#endif

/* Out of line: one copy for every kernel of the unit. */
static __attribute__((noinline)) vec v_activate(lf_activation activation, vec x) {
    const vec alpha = v_set1((real)activation.alpha), beta = v_set1((real)activation.beta);
    switch (activation.kind) {
    case LF_LINEAR:
        return x;
    case LF_TANH:
        return v_tanh(x);
    case LF_SIGMOID:
        return v_sigmoid(x);
    case LF_RELU:
        return v_max(v_set1(0), x);
    case LF_HARD_SIGMOID:
        return v_min(v_set1(1), v_max(v_set1(0), v_fma(alpha, x, beta)));
    case LF_LEAKY_RELU:
        return v_if_negative(x, v_mul(alpha, x), x);
    default:
        return v_lanes(activation, x);
    }
}
