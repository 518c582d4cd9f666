/* vmath_impl.h - activations on vectors; the text is shared by every instruction set.
 *
 * v_min(a, b) and v_max(a, b) return b when either is NaN, on every ISA: limits go first, so NaN passes through.
 *
 * float: over all 2^32 floats tanh is within 1.59 ulp and sigmoid within 1.82, or 1.95 without FMA (found by
 * tests/sweep_activations.py); e^x for x <= 0 is within 1.6. AVX2 and AVX-512 give the same bits. Coefficients are
 * minimax fits, rounded to float; tools/fit_activations.py prints them.
 *
 * Exponential: x = r - n ln2 with |r| <= ln2 / 2, so e^-x = 2^n e^-r, and e^-r = (k - r/2) / (k + r/2) where
 * k = (r/2) coth(r/2) is even in r. With k = 1 + c1 r^2 + c2 r^4 the quotient has a relative error of 2^-30.
 *
 * Sigmoid: 1 / (1 + e^-x) = above / (above + 2^n below), where above = LIFT (k + r/2), below = LIFT (k - r/2) is taken
 * as above - LIFT r, and the sum is rounded once. An error of `above` then cancels but for a part of |r|, so what
 * counts is the rounding of `below`, of the sum and of the quotient. LIFT keeps above and below in [1.36, 1.94]:
 * roundings are small there, and an error weighs most in a result just short of a power of 2, where both are near LIFT.
 *
 * Tanh: eight intervals of |x|, numbered by the leading bits of 2 + 3.25 |x|; in each a polynomial of degree 6 about a
 * centre, fitted in ulps. It is off by 1.1 ulp at most where nothing else but the result is rounded, 0.6 ulp elsewhere.
 * Centres are such that the constant terms are nearly floats; the first is 0, so that small x stay as they are.
 *
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
#define ROUNDER 12582912.0f /* 1.5 * 2^23: adding it leaves the nearest integer in the low bits */
#define LN2_FIRST 0x1.9608p+0f
#define LN2_SECOND 0x1.bf8366p-2f /* LN2_FIRST * LN2_SECOND = ln2 (1 + 8e-12) */
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#define LIFT 0x1.a3p+0f

/* x + n ln2 for n + ROUNDER. The products n * LN2_FIRST and n * LN2_HIGH are exact (Cody & Waite 1980). */
static inline vec v_add_ln2s(vec x, vec shifted) {
    if (HAS_FMA)
        return v_fma(v_fma(shifted, v_set1(LN2_FIRST), v_set1(-LN2_FIRST * ROUNDER)), v_set1(LN2_SECOND), x);
    const vec n = v_sub(shifted, v_set1(ROUNDER));
    return v_fma(n, v_set1(LN2_LOW), v_fma(n, v_set1(LN2_HIGH), x));
}

/* e^-x = scale * below / above for x in [-89, 88]: scale is infinite below -88.4, and 0 above 87.7. */
static inline void v_exp_of_minus(vec x, vec *scale, vec *below, vec *above) {
    const vec shifted = v_fma(x, v_set1(-LOG2_E), v_set1(ROUNDER));
    const vec r = v_add_ln2s(x, shifted);
    const vec rr = v_mul(r, r);
    const vec c = v_fma(rr, v_set1(-0x1.28b0b8p-9f), v_set1(0x1.17552p-3f));
    *above = v_fma(rr, c, v_fma(r, v_set1(LIFT / 2), v_set1(LIFT)));
    *below = v_fma(r, v_set1(-LIFT), *above);
    *scale = v_pow2(shifted);
}

/* e^x for x <= 0; 0 where it would be subnormal, or nearly so */
static inline vec v_exp_of_nonpositive(vec x) {
    vec scale, below, above;
    v_exp_of_minus(v_sub(v_set1(0), v_max(v_set1(-88), x)), &scale, &below, &above);
    return v_mul(scale, v_div(below, above));
}

/* The sum is `above` itself at 20, and infinite at -89. */
static inline vec v_sigmoid(vec x) {
    vec scale, below, above;
    v_exp_of_minus(v_min(v_set1(20), v_max(v_set1(-89), x)), &scale, &below, &above);
    return v_div(above, v_fma(scale, below, above));
}

/* By interval: its centre, then the coefficients of d^0 .. d^6 for d = |x| - centre. */
static const real tanh_of[8][8] = {
    {0x0p+0f, 0x1.d3p-2f, 0x1.d78p-1f, 0x1.8a8p+0f, 0x1.3dp+1f, 0x1.e0cp+1f, 0x1.5dep+2f, 0x1.03a8p+3f},
    {0x0p+0f, 0x1.b51ba2p-2f, 0x1.73e08p-1f, 0x1.d317cap-1f, 0x1.f8d1e6p-1f, 0x1.ff70c8p-1f, 0x1.fffb52p-1f,
     0x1.fffffap-1f},
    {0x1p+0f, 0x1.a2b516p-1f, 0x1.e3cbbap-2f, 0x1.578038p-3f, 0x1.c84e7ep-6f, 0x1.1e4caap-9f, 0x1.2cf774p-14f,
     0x1.8245e4p-22f},
    {-0x1.420e1cp-19f, -0x1.65762p-2f, -0x1.5f64c4p-2f, -0x1.395f48p-3f, -0x1.c1e3bep-6f, -0x1.1e128p-9f,
     -0x1.2b05p-14f, -0x1.8723d8p-22f},
    {-0x1.553636p-2f, -0x1.fa3fcp-4f, 0x1.779498p-4f, 0x1.56e3d2p-4f, 0x1.23676p-6f, 0x1.7bc80ep-10f, 0x1.7f0272p-15f,
     0x1.eeb1p-23f},
    {-0x1.f2ac88p-10f, 0x1.5a4e94p-3f, 0x1.8805cp-5f, -0x1.9f8b1cp-6f, -0x1.13385ap-7f, -0x1.7703e2p-11f,
     -0x1.8fcca2p-16f, -0x1.c2c85p-24f},
    {0x1.2c5ba6p-3f, -0x1.841c18p-7f, -0x1.b609fap-5f, -0x1.affc42p-10f, 0x1.886868p-9f, 0x1.3c3126p-12f,
     0x1.949c52p-17f, 0x1.fef97p-25f},
    {-0x1.605192p-5f, -0x1.d7e0fap-5f, 0x1.da1326p-7f, 0x1.9c09bap-8f, -0x1.6a6b54p-11f, -0x1.d4a0c8p-14f,
     -0x1.d3f68cp-19f, -0x1.b4b676p-26f},
};

/* The polynomial is 1 at 9.23. */
static inline vec v_tanh(vec x) {
    const vec a = v_min(v_set1(9.23f), v_abs(x));
    const ivec interval = v_leading_bits(v_fma(a, v_set1(3.25f), v_set1(2)));
    const vec d = v_sub(a, v_lookup(tanh_of[0], interval));
    vec y = v_lookup(tanh_of[7], interval);
    for (int k = 6; k >= 1; k--)
        y = v_fma(y, d, v_lookup(tanh_of[k], interval));
    return v_copysign(y, x);
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
