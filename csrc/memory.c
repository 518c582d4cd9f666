/* memory.c - the only allocator of the engine. */
#define _GNU_SOURCE /* madvise */
#include "lf_memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Large blocks ask for huge pages, whole ones: weights are read end to end at every step, and pages scattered over
 * physical memory would crowd some sets of a cache that could hold them all. */
enum { HUGE_PAGE = 2 << 20, LARGE = HUGE_PAGE / 2 };

static size_t unit_of(size_t size) { return size >= LARGE ? HUGE_PAGE : LF_ALIGN; }

size_t lf_alloc_size(size_t size) {
    const size_t unit = unit_of(size), rounded = (size + unit - 1) / unit * unit;
    return rounded < size ? SIZE_MAX : rounded ? rounded : LF_ALIGN;
}

void *lf_alloc(size_t size) {
    const size_t unit = unit_of(size), rounded = lf_alloc_size(size);
    if (rounded == SIZE_MAX)
        return NULL;
    void *pointer = aligned_alloc(unit, rounded);
#ifdef MADV_HUGEPAGE
    if (pointer && unit == HUGE_PAGE)
        madvise(pointer, rounded, MADV_HUGEPAGE); /* a wish: without it everything still works */
#endif
    return pointer;
}

void *lf_alloc_zeroed(size_t size) {
    void *pointer = lf_alloc(size);
    return pointer ? memset(pointer, 0, size) : NULL;
}

void lf_free(void *pointer) { free(pointer); }

void *lf_carve(lf_carver *carver, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 4 || carver->used > SIZE_MAX / 4) {
        carver->overflow = 1;
        return NULL;
    }
    void *at = carver->base ? carver->base + carver->used : NULL;
    carver->used += (bytes + LF_ALIGN - 1) / LF_ALIGN * LF_ALIGN;
    return at;
}
