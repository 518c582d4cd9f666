/* pipeline.c - the layers of a stage at once, each on another block of time: while one member runs a layer on a block,
 * the next one runs the layer above on the block before. They meet after every block instead of every step. */
#include "pipeline.h"

#include "layers.h"

/* Below it a pipeline is not worth its meetings. */
static const double LEAST_GAIN = 1.3;

static int64_t work_of(const lf_node *node) { return node->input_work + node->recurrent_work; }

static int64_t stage_work(const lf_plan *plan, const lf_stage *stage) {
    int64_t total = 0;
    for (int64_t i = stage->first; i <= stage->last; i++)
        total += work_of(&plan->nodes[i]);
    return total;
}

/* The first layer of a member, that of the next one being its end: its layers are those whose middles fall into its
 * share of the stage's work. */
static int64_t first_layer(const lf_plan *plan, const lf_stage *stage, int members, int member) {
    if (member == members)
        return stage->last + 1;
    const double share = (double)stage_work(plan, stage) / members;
    double before = 0;
    int64_t i = stage->first;
    for (; i <= stage->last; i++) {
        const double own = (double)work_of(&plan->nodes[i]);
        if (member == 0 || before + 0.5 * own >= share * member)
            break;
        before += own;
    }
    return i;
}

static int64_t most_work(const lf_plan *plan, const lf_stage *stage, int members) {
    int64_t most = 1;
    for (int m = 0; m < members; m++) {
        int64_t work = 0;
        for (int64_t i = first_layer(plan, stage, members, m); i < first_layer(plan, stage, members, m + 1); i++)
            work += work_of(&plan->nodes[i]);
        most = work > most ? work : most;
    }
    return most;
}

static int64_t blocks_of(int64_t time, int64_t block) { return (time + block - 1) / block; }

double lf_pipeline_gain(const lf_plan *plan, const lf_stage *stage, int64_t time, int members) {
    const lf_node *last = &plan->nodes[stage->last];
    if (stage->collapsed || stage->first == stage->last || lf_looks_back(last) || time < 1)
        return 1;
    const double blocks = (double)blocks_of(time, lf_pipeline_block(time));
    const double gain =
        (double)stage_work(plan, stage) / (double)most_work(plan, stage, members) * blocks / (blocks + members - 1);
    return gain < LEAST_GAIN ? 1 : gain;
}

/* Where the outputs of a segment wait for the next: one block is written while the one before is read. */
static lf_view link_buffer(const lf_slice *s, int64_t rank, int64_t block, int64_t features) {
    const int64_t row = features * s->plan->kernels->item_size;
    char *data = (char *)s->w.links + (2 * (size_t)rank + (size_t)(block & 1)) * s->w.link_size;
    return (lf_view){data, row, row * s->rows};
}

/* The layers of this member, and how many members with layers are before it. */
typedef struct {
    int64_t first, end, rank;
} segment;

static segment own_segment(const lf_slice *s, const lf_stage *stage) {
    segment own = {.end = stage->first};
    for (int m = 0; m <= s->member; m++) {
        own.rank += m && own.end > own.first;
        own.first = own.end;
        own.end = first_layer(s->plan, stage, s->gang->size, m + 1);
    }
    return own;
}

static void run_segment(lf_slice *s, const lf_stage *stage, const segment *seg, lf_view x, lf_view y, int64_t block,
                        int64_t time) {
    const lf_node *nodes = s->plan->nodes;
    const int64_t begin = block * s->w.block, left = time - begin, steps = left < s->w.block ? left : s->w.block;
    const lf_view from = seg->first == stage->first
                             ? lf_shifted(x, begin)
                             : link_buffer(s, seg->rank - 1, block, nodes[seg->first].input_size);
    const lf_view to = seg->end > stage->last ? lf_shifted(y, begin)
                                              : link_buffer(s, seg->rank, block, nodes[seg->end - 1].output_size);
    lf_run_layers(s, seg->first, seg->end - 1, from, to, begin, steps);
}

void lf_run_pipeline(lf_slice *s, const lf_stage *stage, lf_view x, lf_view y, int64_t time) {
    const segment seg = own_segment(s, stage);
    const int64_t blocks = blocks_of(time, s->w.block);
    lf_gang alone;
    lf_gang_init(&alone, 1);
    lf_slice own = *s;
    own.gang = &alone;
    own.member = 0;
    own.w.projection = s->w.own_projection;
    for (int i = 0; i < 2; i++)
        own.w.values[i] = s->w.own_values[i];
    for (int64_t turn = 0; turn < blocks + s->gang->size - 1 && !lf_interrupted(s); turn++) {
        const int64_t block = turn - seg.rank;
        if (block >= 0 && block < blocks && seg.first < seg.end)
            run_segment(&own, stage, &seg, x, y, block, time);
    }
    for (int64_t i = stage->first; i <= stage->last; i++)
        if (s->plan->nodes[i].kind == LF_RECURRENT && (i < seg.first || i >= seg.end))
            lf_cell_follow(s, s->plan->nodes[i].first_cell, time);
    lf_sync(s);
}
