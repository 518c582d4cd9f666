/* lf_memory.h - the only allocator of the engine: aligned to LF_ALIGN, NULL when memory is short. */
#ifndef LF_MEMORY_H
#define LF_MEMORY_H

#include <stddef.h>

enum { LF_ALIGN = 64 };

void *lf_alloc(size_t size);
void *lf_alloc_zeroed(size_t size);
void lf_free(void *pointer);

#endif
