/* memory.c - the only allocator of the engine. */
#include "lf_memory.h"

#include <stdlib.h>
#include <string.h>

void *lf_alloc(size_t size) {
    const size_t rounded = (size + LF_ALIGN - 1) / LF_ALIGN * LF_ALIGN;
    return rounded < size ? NULL : aligned_alloc(LF_ALIGN, rounded ? rounded : LF_ALIGN);
}

void *lf_alloc_zeroed(size_t size) {
    void *pointer = lf_alloc(size);
    return pointer ? memset(pointer, 0, size) : NULL;
}

void lf_free(void *pointer) { free(pointer); }
