/* slice.h - a slice of the batch on its way through the network, and one step of it on either backend. */
#ifndef LF_SLICE_H
#define LF_SLICE_H

#include "team.h"
#include "workspace.h"

/* Step (row, t) starts at data + row * batch_stride + t * time_stride; its features are contiguous. In bytes. */
typedef struct {
    char *data;
    int64_t batch_stride, time_stride;
} lf_view;

static inline lf_view lf_shifted(lf_view view, int64_t steps) {
    view.data += steps * view.time_stride;
    return view;
}

/* How a call is divided: its rows into slices, or the units of its layers among members. */
typedef struct {
    int by_units, members;
    int64_t slices, most_rows; /* rows at a time, in any slice */
    int64_t patience;          /* nanoseconds to wait for members */
    double meeting;            /* clock cycles that a meeting of a gang is thought to take */
    lf_extent extent;          /* of a slice */
} lf_split;

void lf_split_call(const lf_plan *plan, int64_t batch, int64_t time, lf_split *split);

/* Bytes of workspace of one slice. */
size_t lf_slice_size(const lf_plan *plan, const lf_split *split);

/* One call, as all its members see it; it opens the workspace. Nothing that they see is on the caller's stack: at the
 * end of a Python process its thread may vanish in a poll, and the others go on until the process is gone. */
typedef struct {
    const lf_plan *plan;
    lf_call call;
    lf_job job;
    char *slices; /* the rest of the workspace */
    lf_split split;
    int64_t next_slice;
    long forks;
    int stop;   /* the caller was interrupted */
    int forked; /* when it was asked: the other members are in another process */
    lf_gang all, halves[2];
} lf_work;

/* Rows first_row, first_row + row_step, ... of a call, as one member of a gang sees them: the gang shares the
 * workspace, all but what is each member's own, and divides every piece of work among its members. */
typedef struct {
    const lf_plan *plan;
    const lf_call *call;
    int64_t first_row, row_step, rows, time;
    lf_workspace w;
    lf_work *work;
    lf_gang *gang;
    int member;
    int asks;              /* on the caller's thread, which may poll call->interrupted */
    unsigned callers_mode; /* floating-point mode to poll in */
    int64_t polls;         /* of the gang so far */
} lf_slice;

/* split.c: whether the halves of the gang take a direction of that node each, or all of it one after the other. */
int lf_takes_directions_at_once(const lf_slice *s, const lf_node *node);

/* This member's share of n: [first, last). */
static inline void lf_share(const lf_slice *s, int64_t n, int64_t *first, int64_t *last) {
    *first = n * s->member / s->gang->size;
    *last = n * (s->member + 1) / s->gang->size;
}

static inline void lf_sync(const lf_slice *s) { lf_gang_sync(s->gang, s->member); }

/* Arguments of a step of a part, for this member's share of its panels. */
static inline lf_step lf_own_step(const lf_slice *s, const lf_part *part) {
    lf_step step = {.part = part,
                    .cached_bytes = s->plan->cached_bytes,
                    .init = part->bias,
                    .w_h = part->w_h,
                    .scratch = s->w.blas};
    lf_share(s, part->panels, &step.first_panel, &step.last_panel);
    return step;
}

/* One step of a part on the plan's backend. */
static inline void lf_run_step(const lf_plan *plan, lf_step_fn kernel, const lf_step *step) {
    if (step->n == 0)
        return;
    if (plan->backend == LF_BLAS)
        lf_blas_step(plan->dtype, kernel, step);
    else
        kernel(step);
}

#endif
