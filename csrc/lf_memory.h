/* lf_memory.h - the only allocator of the engine: aligned to LF_ALIGN, NULL when memory is short. */
#ifndef LF_MEMORY_H
#define LF_MEMORY_H

#include <stddef.h>

enum { LF_ALIGN = 64 };

void *lf_alloc(size_t size);

/* The bytes that lf_alloc(size) takes, whole pages where they are many; SIZE_MAX where it cannot. */
size_t lf_alloc_size(size_t size);
void *lf_alloc_zeroed(size_t size);
void lf_free(void *pointer);

/* Carves one block into arrays. With `base` NULL it only measures, so that the same text says how much a block needs
 * and where in it everything lies. */
typedef struct {
    char *base;
    size_t used;
    int overflow;
} lf_carver;

/* Room for count items, or NULL while measuring and after an overflow. */
void *lf_carve(lf_carver *carver, size_t count, size_t size);

#endif
