/* vec_avx2.h - vectors of one 256-bit register, with FMA. */
#if !defined(__AVX2__) || !defined(__FMA__)
#error "this unit must be compiled with -march=x86-64-v3"
#endif
#include <immintrin.h>

#define ISA_NAME "avx2"
enum { MR_MAX = 3, ACCUMULATORS = 12, HAS_FMA = 1 };

/* Words of 32 bits: all ones in the first n; n of them from `first` on, and zeros behind */
static inline __m256i first_words(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline __m256 moved_words(__m256 a, int first, int n) {
    const __m256i from = _mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_and_ps(_mm256_permutevar8x32_ps(a, from), _mm256_castsi256_ps(first_words(n)));
}

#ifdef LF_REAL_IS_DOUBLE

typedef double real;
typedef __m256d vec;
enum { LANES = 4 };

static inline vec v_load(const real *p) { return _mm256_loadu_pd(p); }
static inline void v_store(real *p, vec a) { _mm256_storeu_pd(p, a); }
static inline void v_store_n(real *p, vec a, int n) { _mm256_maskstore_pd(p, first_words(2 * n), a); }
/* n lanes from `first` on, and zeros behind them */
static inline vec v_move_lanes(vec a, int first, int n) {
    return _mm256_castps_pd(moved_words(_mm256_castpd_ps(a), 2 * first, 2 * n));
}
static inline vec v_set1(real a) { return _mm256_set1_pd(a); }
static inline vec v_add(vec a, vec b) { return _mm256_add_pd(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm256_sub_pd(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm256_mul_pd(a, b); }
static inline vec v_div(vec a, vec b) { return _mm256_div_pd(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
static inline vec v_min(vec a, vec b) { return _mm256_min_pd(a, b); }
static inline vec v_max(vec a, vec b) { return _mm256_max_pd(a, b); }
static inline vec v_if_negative(vec x, vec a, vec b) {
    return _mm256_blendv_pd(b, a, _mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_LT_OQ));
}

#else

typedef float real;
typedef __m256 vec;
typedef __m256i ivec;
enum { LANES = 8 };

static inline vec v_load(const real *p) { return _mm256_loadu_ps(p); }
static inline void v_store(real *p, vec a) { _mm256_storeu_ps(p, a); }
static inline void v_store_n(real *p, vec a, int n) { _mm256_maskstore_ps(p, first_words(n), a); }
static inline vec v_move_lanes(vec a, int first, int n) { return moved_words(a, first, n); }
static inline vec v_set1(real a) { return _mm256_set1_ps(a); }
static inline vec v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec v_sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec v_div(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec v_min(vec a, vec b) { return _mm256_min_ps(a, b); }
static inline vec v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec v_if_negative(vec x, vec a, vec b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}
static inline vec v_abs(vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vec v_copysign(vec a, vec sign) { return _mm256_or_ps(a, _mm256_and_ps(sign, _mm256_set1_ps(-0.0f))); }
/* 2^n from the bits of n + 1.5 * 2^23 */
static inline vec v_pow2(vec shifted) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3f800000)));
}
/* The exponent and the first bit behind it, counted from 0 at 2: 8 numbers for a in [2, 32) */
static inline ivec v_leading_bits(vec a) { return _mm256_srli_epi32(_mm256_castps_si256(a), 22); }
static inline vec v_lookup(const real table[8], ivec i) { return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), i); }

#endif
