/* vec_generic.h - 16-byte vectors in GNU C, for any CPU (SSE2 on x86-64, NEON on ARM64). No FMA: products are rounded,
 * so the bits differ from the FMA levels'. */
#include <stdint.h>
#include <string.h>

#define ISA_NAME "generic"
enum { MR_MAX = 3, ACCUMULATORS = 12, HAS_FMA = 0 };

#ifdef LF_REAL_IS_DOUBLE

typedef double real;
typedef double vec __attribute__((vector_size(16)));
typedef int64_t mask __attribute__((vector_size(16)));
enum { LANES = 2 };

static inline vec v_set1(real a) { return (vec){a, a}; }

#else

typedef float real;
typedef float vec __attribute__((vector_size(16)));
typedef int32_t mask __attribute__((vector_size(16)));
typedef uint32_t ivec __attribute__((vector_size(16)));
enum { LANES = 4 };

static inline vec v_set1(real a) { return (vec){a, a, a, a}; }
static inline vec v_abs(vec a) { return (vec)((mask)a & 0x7fffffff); }
static inline vec v_copysign(vec a, vec sign) { return (vec)((mask)a | ((mask)sign & (mask)v_set1(-0.0f))); }
/* 2^n from the bits of n + 1.5 * 2^23 */
static inline vec v_pow2(vec shifted) { return (vec)(((ivec)shifted << 23) + 0x3f800000u); }
/* The exponent and the first bit behind it, counted from 0 at 2: 8 numbers for a in [2, 32) */
static inline ivec v_leading_bits(vec a) { return (ivec)a >> 22; }
static inline vec v_lookup(const real table[8], ivec i) {
    return (vec){table[i[0] & 7], table[i[1] & 7], table[i[2] & 7], table[i[3] & 7]};
}

#endif

static inline vec v_load(const real *p) {
    vec a;
    memcpy(&a, p, sizeof a);
    return a;
}
static inline void v_store(real *p, vec a) { memcpy(p, &a, sizeof a); }
static inline void v_store_n(real *p, vec a, int n) { memcpy(p, &a, (size_t)n * sizeof(real)); }
/* n lanes from `first` on, and zeros behind them */
static inline vec v_move_lanes(vec a, int first, int n) {
    vec lanes = {0};
    memcpy(&lanes, (const char *)&a + (size_t)first * sizeof(real), (size_t)n * sizeof(real));
    return lanes;
}
static inline vec v_add(vec a, vec b) { return a + b; }
static inline vec v_sub(vec a, vec b) { return a - b; }
static inline vec v_mul(vec a, vec b) { return a * b; }
static inline vec v_div(vec a, vec b) { return a / b; }
static inline vec v_fma(vec a, vec b, vec c) { return a * b + c; }
static inline vec v_select(mask m, vec a, vec b) { return (vec)((m & (mask)a) | (~m & (mask)b)); }
static inline vec v_min(vec a, vec b) { return v_select(a < b, a, b); }
static inline vec v_max(vec a, vec b) { return v_select(a > b, a, b); }
static inline vec v_if_negative(vec x, vec a, vec b) { return v_select(x < v_set1(0), a, b); }
