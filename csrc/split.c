/* split.c - how a call is divided among threads, by an estimate of what each way costs, and the memory this takes. */
#include "pipeline.h"

/* Clock cycles that a meeting after every step takes: to tell each other, and to get the outputs out of one another's
 * caches. Below LEAST_CALL in all, calling others takes longer than it saves. */
static const double MEETING = 700, LEAST_CALL = 25000;

/* The others are waited for about half as long as the caller would take alone, which is what they save, up to here. */
static const double LONG_CALL = 1e7;

/* A step cannot be shorter than its weights take to arrive: as long as the multiply-adds of so many rows, when they
 * come from the second-level cache (48 bytes a cycle), and when they exceed it and come from the third (10). */
enum { CACHED_ROWS = 3, UNCACHED_ROWS = 13 };

static double max(double a, double b) { return a > b ? a : b; }

/* A step of a node for `rows` rows by `members` threads, each with its share of a direction's units; of one direction
 * after the other, or `at_once` by the two halves of them. */
static double node_cycles(const lf_plan *plan, const lf_node *node, double rows, int members, int at_once) {
    const int64_t weights = node->num_directions == 2 && !at_once ? node->recurrent_work / 2 : node->recurrent_work;
    const double least =
        weights * plan->kernels->item_size / members > plan->cached_bytes ? UNCACHED_ROWS : CACHED_ROWS;
    const double terms = (double)node->recurrent_work * max(rows, least) + (double)node->input_work * rows;
    return terms / (2 * plan->kernels->lanes) / members;
}

static double stage_cycles(const lf_plan *plan, const lf_stage *stage, double rows) {
    double total = 0;
    for (int64_t i = stage->first; i <= stage->last; i++)
        total += node_cycles(plan, &plan->nodes[i], rows, 1, 0);
    return total;
}

/* A step by one thread. */
static double alone(const lf_plan *plan, double rows) {
    double total = 0;
    for (int64_t i = 0; i < plan->num_stages; i++)
        total += stage_cycles(plan, &plan->stages[i], rows);
    return total;
}

/* A step of a node by a gang, and its meetings: none where a direction has one member. */
static double node_by_gang(const lf_plan *plan, const lf_node *node, double rows, int members, int at_once) {
    const int meetings = at_once ? members > 2 : node->num_directions;
    return node_cycles(plan, node, rows, members, at_once) + meetings * node->cells[0].num_parts * MEETING;
}

/* Half the meetings, or none; but each member needs weights of twice the size, in one cache. */
int lf_takes_directions_at_once(const lf_plan *plan, const lf_node *node, int64_t batch, int members) {
    return node->num_directions == 2 && members % 2 == 0 &&
           node_by_gang(plan, node, (double)batch, members, 1) <= node_by_gang(plan, node, (double)batch, members, 0);
}

/* A step of a stage by a gang that divides every layer. */
static double stage_by_gang(const lf_plan *plan, const lf_stage *stage, int64_t batch, int members) {
    double total = 0;
    for (int64_t i = stage->first; i <= stage->last; i++) {
        const lf_node *node = &plan->nodes[i];
        const int at_once = lf_takes_directions_at_once(plan, node, batch, members);
        total += node_by_gang(plan, node, (double)batch, members, at_once);
    }
    return total;
}

/* The same by a gang that makes a pipeline of it, if that takes less. */
static double stage_at_best(const lf_plan *plan, const lf_stage *stage, int64_t batch, int64_t time, int members,
                            int *pipeline) {
    const double gain = lf_pipeline_gain(plan, stage, time, members);
    const double divided = stage_by_gang(plan, stage, batch, members);
    const double piped = stage_cycles(plan, stage, (double)batch) / gain;
    *pipeline = gain > 1 && piped < divided;
    return *pipeline ? piped : divided;
}

int lf_makes_pipeline(const lf_plan *plan, const lf_stage *stage, int64_t batch, int64_t time, int members) {
    int pipeline;
    stage_at_best(plan, stage, batch, time, members, &pipeline);
    return pipeline;
}

/* A step by a gang; whether any stage becomes a pipeline. */
static double by_gang(const lf_plan *plan, int64_t batch, int64_t time, int members, int *pipelined) {
    double total = 0;
    *pipelined = 0;
    for (int64_t i = 0; i < plan->num_stages; i++) {
        int pipeline;
        total += stage_at_best(plan, &plan->stages[i], batch, time, members, &pipeline);
        *pipelined |= pipeline;
    }
    return total;
}

static int64_t most_rows(const lf_plan *plan, int64_t batch, int64_t slices) {
    const int64_t rows = (batch + slices - 1) / slices;
    return rows < plan->rows_at_once ? rows : plan->rows_at_once;
}

void lf_split_call(const lf_plan *plan, int64_t batch, int64_t time, int num_threads, lf_split *split) {
    const int threads = num_threads < 1 ? 1 : num_threads > LF_MOST_MEMBERS ? LF_MOST_MEMBERS : num_threads;
    const double rows = (double)batch, step = alone(plan, rows), call = step * (double)time;
    *split = (lf_split){.members = 1, .slices = 1, .patience = (int64_t)(call < LONG_CALL ? call / 6 : LONG_CALL / 6)};
    int pipelined = 0;
    if (threads > 1 && call >= LEAST_CALL) {
        const int64_t slices = batch < threads ? batch : threads;
        const double by_rows = alone(plan, rows / (double)slices);
        const double gang = plan->backend == LF_PACKED ? by_gang(plan, batch, time, threads, &pipelined) : step;
        split->by_units = gang < by_rows && gang < 0.85 * step;
        split->slices = split->by_units ? 1 : slices;
        split->members = split->by_units ? threads : (int)slices;
    }
    split->most_rows = most_rows(plan, batch, split->slices);
    split->extent = (lf_extent){.rows = split->most_rows,
                                .most = split->most_rows,
                                .time = time,
                                .members = split->by_units ? threads : 1,
                                .pipelined = split->by_units && pipelined};
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
