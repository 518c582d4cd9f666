/* split.c - how a call is divided among threads, and the memory this takes. */
#include "slice.h"

/* By whole tiles of rows where every thread gets several: nobody waits for anybody. By units below that: every thread
 * keeps its panels in its own cache, and all meet after every step. */
enum { ROWS_EACH = 24 };

/* In clock cycles, estimated: a step worth meeting after, and a call worth calling others for. */
static const double LEAST_STEP = 2500, LEAST_CALL = 25000;

/* Of so many terms for each of `rows` rows. A single row is bound by the second-level cache, as if it were some three:
 * a vector of weights takes 4/3 cycles to arrive and half a cycle to use. */
static double cycles(const lf_plan *plan, int64_t terms, int64_t rows) {
    return (double)terms * (double)(rows < 3 ? 3 : rows) / (2 * plan->kernels->lanes);
}

static int64_t most_rows(const lf_plan *plan, int64_t batch, int64_t slices) {
    const int64_t rows = (batch + slices - 1) / slices;
    return rows < plan->rows_at_once ? rows : plan->rows_at_once;
}

void lf_split_call(const lf_plan *plan, int64_t batch, int64_t time, int num_threads, lf_split *split) {
    const int threads = num_threads < 1 ? 1 : num_threads > LF_MOST_MEMBERS ? LF_MOST_MEMBERS : num_threads;
    const double call = cycles(plan, plan->work, batch) * (double)time;
    const int worthwhile = threads > 1 && call >= LEAST_CALL;
    split->by_units = worthwhile && plan->backend == LF_PACKED && plan->num_cells && batch < ROWS_EACH * threads &&
                      cycles(plan, plan->recurrent_work / plan->num_cells, batch) >= LEAST_STEP;
    split->slices = split->by_units || !worthwhile || batch < 1 ? 1 : batch < threads ? batch : threads;
    split->members = split->by_units ? threads : (int)split->slices;
    split->most_rows = most_rows(plan, batch, split->slices);
    split->patience = call < 1e8 ? (int64_t)(call / 12) : (int64_t)1e8 / 12;
    split->extent = (lf_extent){split->most_rows, split->most_rows, time, 0, split->by_units ? threads : 1};
}

size_t lf_slice_size(const lf_plan *plan, const lf_split *split) {
    lf_workspace unused;
    return lf_layout(plan, &split->extent, NULL, &unused);
}

size_t lf_workspace_size(const lf_plan *plan, int64_t batch, int64_t time, int num_threads) {
    if (batch <= 0)
        return 0;
    lf_split split;
    size_t total;
    lf_split_call(plan, batch, time, num_threads, &split);
    if (__builtin_mul_overflow(lf_slice_size(plan, &split), (size_t)split.slices, &total) ||
        __builtin_add_overflow(total, sizeof(lf_work), &total))
        return SIZE_MAX;
    return total;
}
