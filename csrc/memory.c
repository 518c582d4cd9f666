/* memory.c - the only allocator of the engine. */
#include "lf_memory.h"

#include <stdlib.h>
#include <string.h>

void *lf_alloc(size_t size) {
    const size_t rounded = (size + LF_ALIGN - 1) / LF_ALIGN * LF_ALIGN;
    void *pointer = rounded < size ? NULL : aligned_alloc(LF_ALIGN, rounded ? rounded : LF_ALIGN);
    return pointer ? memset(pointer, 0, rounded) : NULL;
}

void lf_free(void *pointer) { free(pointer); }
