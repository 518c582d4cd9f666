/* What one core can do at the most, in the three ways that bound a recurrent step: multiply-adds in registers, weights
 * streamed through multiply-adds, and operations that wait for one another. Compiled by peaks.py for this CPU. */

#include <stddef.h>

#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));

/* Enough chains to hide the latency of two units; with their operands they fit into 16 registers of AVX2. */
enum { CHAINS = 12, AHEAD = 2048 / sizeof(vec) };

int lanes(void) { return LANES; }

static float sum(const vec *chains) {
    float total = 0;
    for (int i = 0; i < CHAINS; i++)
        for (int lane = 0; lane < LANES; lane++)
            total += chains[i][lane];
    return total;
}

/* count multiply-adds, a multiple of 192, all in registers. The chains begin with different numbers, for of equal ones
 * a compiler would keep a single one. */
float multiply_add(size_t count, float factor, float addend) {
    vec chains[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        chains[i] = (vec){0} + (float)i;
    const vec a = factor - (vec){0}, b = addend - (vec){0};
    for (size_t done = 0; done < count; done += CHAINS * LANES) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            chains[i] = chains[i] * a + b;
    }
    return sum(chains);
}

/* count additions, a multiple of 16, each of which waits for the one before and takes a clock. */
size_t chain(size_t count, size_t step) {
    size_t total = 0;
    for (size_t done = 0; done < count; done += 16) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            total += step;
            __asm__("" : "+r"(total)); /* or the compiler multiplies */
        }
    }
    return total;
}

/* Reads bytes, a multiple of 768, from 64-byte aligned data, rounds times over. */
float stream(const vec *data, size_t bytes, size_t rounds, float factor, int prefetch) {
    vec chains[CHAINS] = {{0}};
    const vec a = factor - (vec){0};
    for (size_t r = 0; r < rounds; r++)
        for (size_t k = 0; k < bytes / sizeof(vec); k += CHAINS) {
            if (prefetch) {
#pragma GCC unroll 12
                for (int i = 0; i < CHAINS; i++)
                    __builtin_prefetch(data + k + i + AHEAD);
            }
#pragma GCC unroll 12
            for (int i = 0; i < CHAINS; i++)
                chains[i] += data[k + i] * a;
        }
    return sum(chains);
}
