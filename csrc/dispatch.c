/* dispatch.c - what this machine offers: instruction sets that this build has kernels for, and cache. */
#include "lf_impl.h"

#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>

typedef struct {
    unsigned eax, ebx, ecx, edx;
} registers;

static registers cpuid(unsigned leaf) {
    registers r = {0, 0, 0, 0};
    __get_cpuid_count(leaf, 0, &r.eax, &r.ebx, &r.ecx, &r.edx);
    return r;
}

/* Register state the operating system saves: without it the instructions fault though the CPU has them. */
static unsigned long long saved_state(void) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}

static int all_of(unsigned bits, unsigned wanted) { return (bits & wanted) == wanted; }

/* The whole psABI level x86-64-v3, since the compiler may use any of it. */
static int has_v3(void) {
    const unsigned leaf1 = bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT | bit_CMPXCHG16B | bit_OSXSAVE |
                           bit_AVX | bit_FMA | bit_F16C | bit_MOVBE;
    const unsigned leaf7 = bit_AVX2 | bit_BMI | bit_BMI2;
    return all_of(cpuid(1).ecx, leaf1) && all_of(cpuid(7).ebx, leaf7) && all_of(cpuid(0x80000001).ecx, bit_LZCNT) &&
           (saved_state() & 0x06) == 0x06; /* SSE and AVX */
}

static int has_v4(void) {
    const unsigned leaf7 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
    return has_v3() && all_of(cpuid(7).ebx, leaf7) && (saved_state() & 0xe6) == 0xe6; /* and opmask, ZMM */
}

/* Those for servers: AMD's family 1ah, models 00h to 1fh. */
static int is_zen5(void) {
    const unsigned version = cpuid(1).eax, family = (version >> 8 & 0xf) + (version >> 20 & 0xff);
    return cpuid(0).ebx == signature_AMD_ebx && family == 0x1a && (version >> 16 & 0xf) <= 1;
}
#else
static int has_v3(void) { return 0; }
static int has_v4(void) { return 0; }
static int is_zen5(void) { return 0; }
#endif

static int always(void) { return 1; }

typedef struct {
    const char *name;
    int (*usable)(void);
    const lf_kernels *tables[LF_DTYPE_COUNT]; /* NULL where this build lacks it */
} isa_entry;

static const isa_entry isas[] = {
    {"generic", always, {&lf_kernels_generic_f32, &lf_kernels_generic_f64}},
#ifdef LF_HAVE_AVX2
    {"avx2", has_v3, {&lf_kernels_avx2_f32, &lf_kernels_avx2_f64}},
#else
    {"avx2", has_v3, {NULL, NULL}},
#endif
#ifdef LF_HAVE_AVX512
    {"avx512", has_v4, {&lf_kernels_avx512_f32, &lf_kernels_avx512_f64}},
#else
    {"avx512", has_v4, {NULL, NULL}},
#endif
};

enum { ISA_COUNT = sizeof isas / sizeof isas[0] };

static const isa_entry *find(const char *name) {
    for (int i = 0; i < ISA_COUNT; i++)
        if (!strcmp(isas[i].name, name))
            return &isas[i];
    return NULL;
}

const char *lf_isa_name(int index) { return index >= 0 && index < ISA_COUNT ? isas[index].name : NULL; }

lf_status lf_isa_status(const char *isa) {
    const isa_entry *entry = find(isa);
    if (!entry)
        return LF_UNKNOWN_ISA;
    if (!entry->tables[LF_F32])
        return LF_ISA_NOT_BUILT;
    return entry->usable() ? LF_OK : LF_ISA_NOT_USABLE;
}

lf_status lf_dispatch(const char *isa, lf_dtype dtype, const lf_kernels **kernels) {
    if (!isa)
        for (int i = ISA_COUNT - 1; !isa; i--)
            isa = lf_isa_status(isas[i].name) == LF_OK ? isas[i].name : NULL;
    const lf_status status = lf_isa_status(isa);
    if (status == LF_OK)
        *kernels = find(isa)->tables[dtype];
    return status;
}

static int64_t second_level_cache(void) {
    long size = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    size = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return size > 0 ? size : 1 << 20;
}

/* An eighth of the cache is left to everything else. */
int64_t lf_cached_bytes(void) { return second_level_cache() / 8 * 7; }

/* A Zen 5 reads 47 bytes a cycle from its second-level cache where it goes round and round in less than some half of
 * it, and 63 where it goes round in more. */
int64_t lf_least_sweep(void) { return is_zen5() ? second_level_cache() / 2 : 0; }

lf_status lf_activate(lf_dtype dtype, const char *isa, lf_activation activation, int64_t n, void *y) {
    const lf_kernels *kernels;
    const lf_status status = lf_dispatch(isa, dtype, &kernels);
    if (status == LF_OK)
        kernels->activate(activation, n, y);
    return status;
}
