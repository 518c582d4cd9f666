/* memory.c - the only allocator of the engine. */
#define _GNU_SOURCE /* madvise */
#include "lf_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Large blocks ask for huge pages: prefetchers stop at the end of a page, and weights are read end to end every step.
 */
enum { HUGE_PAGE = 2 << 20 };

void *lf_alloc(size_t size) {
    const size_t unit = size >= HUGE_PAGE ? HUGE_PAGE : LF_ALIGN;
    const size_t rounded = (size + LF_ALIGN - 1) / LF_ALIGN * LF_ALIGN;
    if (rounded < size)
        return NULL;
    void *pointer = aligned_alloc(unit, rounded ? rounded : LF_ALIGN);
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
