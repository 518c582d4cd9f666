/* run.h - what the parts of a run share: a slice of the batch on its way through the network. */
#ifndef LF_RUN_H
#define LF_RUN_H

#include "workspace.h"

/* Step (row, t) starts at data + row * batch_stride + t * time_stride; its features are contiguous. In bytes. */
typedef struct {
    char *data;
    int64_t batch_stride, time_stride;
} lf_view;

/* Rows [first_row, first_row + rows) of a call. */
typedef struct {
    const lf_plan *plan;
    const lf_call *call;
    int64_t first_row, rows, time;
    lf_workspace w;
    int asks;              /* on the caller's thread, which may poll call->interrupted */
    unsigned callers_mode; /* floating-point mode to poll in */
    int *stop;             /* shared by all slices of the call */
} lf_slice;

/* cell.c: state of one cell from and to the caller's arrays. */
void lf_cell_enter(const lf_slice *s, const lf_cell_plan *cell, int64_t index);
void lf_cell_leave(const lf_slice *s, const lf_cell_plan *cell, int64_t index);

/* cell.c: direction d of a recurrent node on steps [begin, begin + steps) of the sequence, last to first when
 * `backward`. x starts at `begin`; so does y, which is NULL where only the state is wanted. */
void lf_run_cell(lf_slice *s, const lf_node *node, int d, lf_view x, const lf_view *y, int64_t begin, int64_t steps,
                 int backward);

/* stateless.c: any other node; x and y start at `begin`. */
void lf_run_stateless(lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t begin, int64_t steps);

/* One step of a part on the plan's backend. */
static inline void lf_run_step(const lf_plan *plan, lf_step_fn kernel, const lf_step *step) {
    if (plan->backend == LF_BLAS)
        lf_blas_step(plan->dtype, kernel, step);
    else
        kernel(step);
}

#endif
