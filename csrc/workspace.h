/* workspace.h - one call's memory: how much, and where in it everything lies. */
#ifndef LF_WORKSPACE_H
#define LF_WORKSPACE_H

#include "lf_impl.h"

typedef struct {
    void *h, *h_next;           /* output of the last step and of the next one */
    void *c;                    /* cell state, or z of a GRU without reset_after */
    void *part;                 /* between two parts of a step: r*h, or the output before projection */
    int64_t h_stride, c_stride; /* bytes per row, of h and of c and part */
} lf_cell_state;

typedef struct {
    int64_t block;        /* time steps per block */
    void *stage[2];       /* (row, time, features) between stages, taken in turn */
    void *values[2];      /* (time, row, features) of one block between layers, taken in turn */
    void *projections[2]; /* (time, row, pre-activations) of one block; the second for a direction of its own gang */
    uint8_t *mask;        /* (time, row), 1 where a step counts; NULL where no layer makes masks */
    uint8_t *starts_free; /* of each cell, whether its state is +0 in whole and its first step may make use of it */
    void *blas;
    lf_cell_state *cells; /* from here on each member's own; the states themselves are shared */
    const void **x;
    void **y;
    int32_t *rows;
    void *softmax;
    void *own_values[2], *own_projection; /* of a pipeline */
    void *links;                          /* between its members, two blocks each of link_size bytes; shared */
    size_t link_size;
    void *projection; /* the one in use */
} lf_workspace;

/* What a workspace is for: `rows` of the `most` that any slice of the call has at a time, the steps of a sequence, and
 * which of how many members looks at it, and whether they may go through a stage in a pipeline. `most` sets the block,
 * so that a smaller rest of the rows needs no more. */
typedef struct {
    int64_t rows, most, time;
    int member, members;
    int pipelined;
} lf_extent;

/* Time steps per block of a pipeline: blocks enough to keep all members busy most of the time. */
int64_t lf_pipeline_block(int64_t time);

/* Bytes needed, SIZE_MAX on overflow; fills `w` with addresses from `base` (NULL: only measures). */
size_t lf_layout(const lf_plan *plan, const lf_extent *extent, void *base, lf_workspace *w);

#endif
