/* split.c - how a call is divided among threads, by an estimate of what each way costs, and the memory this takes. */
#include "pipeline.h"

/* Clock cycles that a meeting after every step takes: to tell each other, and to get the outputs out of one another's
 * caches. It is two thirds of the time in which a thread lately answered a call, as was seen of CPUs near to each other
 * and far apart (170 and 740 ns, at 3.8 GHz), or MEETING where that is not known. */
static const double CYCLES_PER_NS_OF_ANSWER = 2.5, MEETING = 700, LONGEST_MEETING = 1e18;

/* Clock cycles of a call below which calling others takes longer than it saves. */
static const double LEAST_CALL = 25000;

/* The others are waited for about half as long as the caller would take alone, which is what they save, up to here. */
static const double LONG_CALL = 1e7;

/* A step cannot be shorter than its weights take to arrive: as long as the multiply-adds of so many rows, when they
 * come from the second-level cache (48 bytes a cycle), and when they exceed it and come from the third (10). */
enum { CACHED_ROWS = 3, UNCACHED_ROWS = 13 };

/* What an estimate is about. */
typedef struct {
    const lf_plan *plan;
    int64_t batch, time;
    int members;
    double meeting, alone; /* cycles: of a meeting, of a step by one thread */
} conditions;

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
static double node_by_gang(const conditions *c, const lf_node *node, int at_once) {
    const int meetings = at_once ? c->members > 2 : node->num_directions;
    return node_cycles(c->plan, node, (double)c->batch, c->members, at_once) +
           meetings * node->cells[0].num_parts * c->meeting;
}

/* Half the meetings, or none; but each member needs weights of twice the size, in one cache. */
static int takes_directions_at_once(const conditions *c, const lf_node *node) {
    return node->num_directions == 2 && c->members % 2 == 0 && node_by_gang(c, node, 1) <= node_by_gang(c, node, 0);
}

/* A step of a stage by a gang that divides every layer. */
static double stage_by_gang(const conditions *c, const lf_stage *stage) {
    double total = 0;
    for (int64_t i = stage->first; i <= stage->last; i++) {
        const lf_node *node = &c->plan->nodes[i];
        total += node_by_gang(c, node, takes_directions_at_once(c, node));
    }
    return total;
}

/* The same by a gang that makes a pipeline of it, if that takes less. */
static double stage_at_best(const conditions *c, const lf_stage *stage, int *pipeline) {
    const double gain = lf_pipeline_gain(c->plan, stage, c->time, c->members);
    const double divided = stage_by_gang(c, stage);
    const double piped = stage_cycles(c->plan, stage, (double)c->batch) / gain;
    *pipeline = gain > 1 && piped < divided;
    return *pipeline ? piped : divided;
}

/* A step by a gang; whether any stage becomes a pipeline. */
static double by_gang(const conditions *c, int *pipelined) {
    double total = 0;
    *pipelined = 0;
    for (int64_t i = 0; i < c->plan->num_stages; i++) {
        int pipeline;
        total += stage_at_best(c, &c->plan->stages[i], &pipeline);
        *pipelined |= pipeline;
    }
    return total;
}

static conditions conditions_of(const lf_slice *s, int64_t time) {
    return (conditions){.plan = s->plan,
                        .batch = s->call->batch,
                        .time = time,
                        .members = s->gang->size,
                        .meeting = s->work->split.meeting};
}

int lf_takes_directions_at_once(const lf_slice *s, const lf_node *node) {
    const conditions c = conditions_of(s, s->time);
    return takes_directions_at_once(&c, node);
}

int lf_makes_pipeline(const lf_slice *s, const lf_stage *stage, int64_t time) {
    const conditions c = conditions_of(s, time);
    int pipeline;
    stage_at_best(&c, stage, &pipeline);
    return pipeline;
}

static int64_t most_rows(const lf_plan *plan, int64_t batch, int64_t slices) {
    const int64_t rows = (batch + slices - 1) / slices;
    return rows < plan->rows_at_once ? rows : plan->rows_at_once;
}

static lf_split divide_rows(const conditions *c, int64_t slices) {
    const int64_t most = most_rows(c->plan, c->batch, slices);
    return (lf_split){.members = (int)slices,
                      .slices = slices,
                      .most_rows = most,
                      .extent = {.rows = most, .most = most, .time = c->time, .members = 1}};
}

static lf_split divide_units(const conditions *c, int pipelined) {
    lf_split split = divide_rows(c, 1);
    split.by_units = 1;
    split.members = split.extent.members = c->members;
    split.extent.pipelined = pipelined;
    return split;
}

/* As if meetings took no time. */
static conditions conditions_for(const lf_plan *plan, int64_t batch, int64_t time) {
    const int threads = plan->num_threads < LF_MOST_MEMBERS ? plan->num_threads : LF_MOST_MEMBERS;
    conditions c = {.plan = plan, .batch = batch, .time = time, .members = 1};
    if (threads > 1) {
        c.alone = alone(plan, (double)batch);
        c.members = c.alone * (double)time < LEAST_CALL ? 1 : threads;
    }
    return c;
}

static int64_t slices_of(const conditions *c) { return c->batch < c->members ? c->batch : c->members; }

/* Whether a gang divides the units; whether any stage becomes a pipeline. */
static int prefers_units(const conditions *c, int *pipelined) {
    *pipelined = 0;
    if (c->members == 1 || c->plan->backend != LF_PACKED)
        return 0;
    const double gang = by_gang(c, pipelined);
    return gang < alone(c->plan, (double)c->batch / (double)slices_of(c)) && gang < 0.85 * c->alone;
}

void lf_split_call(const lf_plan *plan, int64_t batch, int64_t time, lf_split *split) {
    conditions c = conditions_for(plan, batch, time);
    if (c.members == 1) {
        *split = divide_rows(&c, 1);
        return;
    }
    const int64_t answer = lf_team_answer();
    c.meeting = answer ? CYCLES_PER_NS_OF_ANSWER * (double)answer : MEETING;
    int pipelined;
    *split = prefers_units(&c, &pipelined) ? divide_units(&c, pipelined) : divide_rows(&c, slices_of(&c));
    const double call = c.alone * (double)time;
    split->patience = (int64_t)((call < LONG_CALL ? call : LONG_CALL) / 6);
    split->meeting = c.meeting;
}

size_t lf_slice_size(const lf_plan *plan, const lf_split *split) {
    lf_workspace unused;
    return lf_layout(plan, &split->extent, NULL, &unused);
}

static size_t size_of(const lf_plan *plan, lf_split split) {
    size_t total;
    if (__builtin_mul_overflow(lf_slice_size(plan, &split), (size_t)split.slices, &total) ||
        __builtin_add_overflow(total, sizeof(lf_work), &total))
        return SIZE_MAX;
    return total;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Whatever a meeting will take. The longer, the fewer are the calls that divide units: none where none did if meetings
 * took no time. And the more of their stages become pipelines. */
size_t lf_workspace_size(const lf_plan *plan, int64_t batch, int64_t time) {
    if (batch <= 0)
        return 0;
    conditions c = conditions_for(plan, batch, time);
    size_t most = size_of(plan, divide_rows(&c, slices_of(&c)));
    int pipelined;
    if (prefers_units(&c, &pipelined)) {
        most = larger(most, size_of(plan, divide_units(&c, pipelined)));
        c.meeting = LONGEST_MEETING; /* not infinity: some stages have no meetings */
        by_gang(&c, &pipelined);
        most = larger(most, size_of(plan, divide_units(&c, pipelined)));
    }
    return most;
}
