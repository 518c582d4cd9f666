/* slice.h - a slice of the batch on its way through the network, and one step of it on either backend. */
#ifndef LF_SLICE_H
#define LF_SLICE_H

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

/* One step of a part on the plan's backend. */
static inline void lf_run_step(const lf_plan *plan, lf_step_fn kernel, const lf_step *step) {
    if (plan->backend == LF_BLAS)
        lf_blas_step(plan->dtype, kernel, step);
    else
        kernel(step);
}

#endif
