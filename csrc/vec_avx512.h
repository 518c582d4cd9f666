/* vec_avx512.h - vectors of one 512-bit register. */
#ifndef __AVX512F__
#error "this unit must be compiled with -march=x86-64-v4"
#endif
#include <immintrin.h>

#define ISA_NAME "avx512"
enum { MR_MAX = 6, ACCUMULATORS = 24, HAS_FMA = 1 };

#ifdef LF_REAL_IS_DOUBLE

typedef double real;
typedef __m512d vec;
enum { LANES = 8 };

static inline vec v_load(const real *p) { return _mm512_loadu_pd(p); }
static inline void v_store(real *p, vec a) { _mm512_storeu_pd(p, a); }
static inline void v_store_n(real *p, vec a, int n) { _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), a); }
/* n lanes from `first` on, and zeros behind them */
static inline vec v_move_lanes(vec a, int first, int n) {
    return _mm512_maskz_compress_pd((__mmask8)(((1u << n) - 1) << first), a);
}
static inline vec v_set1(real a) { return _mm512_set1_pd(a); }
static inline vec v_add(vec a, vec b) { return _mm512_add_pd(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm512_sub_pd(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm512_mul_pd(a, b); }
static inline vec v_div(vec a, vec b) { return _mm512_div_pd(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_pd(a, b, c); }
static inline vec v_min(vec a, vec b) { return _mm512_min_pd(a, b); }
static inline vec v_max(vec a, vec b) { return _mm512_max_pd(a, b); }
static inline vec v_if_negative(vec x, vec a, vec b) {
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(x, _mm512_setzero_pd(), _CMP_LT_OQ), b, a);
}

#else

typedef float real;
typedef __m512 vec;
typedef __m512i ivec;
enum { LANES = 16 };

static inline vec v_load(const real *p) { return _mm512_loadu_ps(p); }
static inline void v_store(real *p, vec a) { _mm512_storeu_ps(p, a); }
static inline void v_store_n(real *p, vec a, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a); }
static inline vec v_move_lanes(vec a, int first, int n) {
    return _mm512_maskz_compress_ps((__mmask16)(((1u << n) - 1) << first), a);
}
static inline vec v_set1(real a) { return _mm512_set1_ps(a); }
static inline vec v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec v_div(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec v_min(vec a, vec b) { return _mm512_min_ps(a, b); }
static inline vec v_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec v_if_negative(vec x, vec a, vec b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
}
static inline vec v_abs(vec a) { return _mm512_abs_ps(a); }
static inline vec v_copysign(vec a, vec sign) { return _mm512_or_ps(a, _mm512_and_ps(sign, _mm512_set1_ps(-0.0f))); }
/* 2^n from the bits of n + 1.5 * 2^23 */
static inline vec v_pow2(vec shifted) {
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f800000)));
}
/* The exponent and the first bit behind it, counted from 0 at 2: 8 numbers for a in [2, 32) */
static inline ivec v_leading_bits(vec a) { return _mm512_srli_epi32(_mm512_castps_si512(a), 22); }
static inline vec v_lookup(const real table[8], ivec i) {
    return _mm512_permutexvar_ps(i, _mm512_zextps256_ps512(_mm256_loadu_ps(table)));
}

#endif
