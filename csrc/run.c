/* run.c - a slice through the network: stages, blocks of time, directions. No instruction set, no number type. */
#include "layers.h"
#include "pipeline.h"

#include <string.h>

static lf_view block_buffer(const lf_slice *s, int64_t turn, int64_t features) {
    const int64_t row = features * s->plan->kernels->item_size;
    return (lf_view){s->w.values[turn & 1], row, row * s->rows};
}

static lf_view stage_buffer(const lf_slice *s, int64_t turn, int64_t features, int64_t time) {
    const int64_t step = features * s->plan->kernels->item_size;
    return (lf_view){s->w.stage[turn & 1], step * time, step};
}

void lf_run_layers(lf_slice *s, int64_t first, int64_t last, lf_view from, lf_view to, int64_t begin, int64_t steps) {
    for (int64_t i = first; i <= last; i++) {
        const lf_node *node = &s->plan->nodes[i];
        const int writes = node->kind != LF_RECURRENT || node->return_sequences;
        const lf_view out = i == last ? to : block_buffer(s, i, node->output_size);
        if (node->kind == LF_RECURRENT)
            lf_run_cell(s, node, 0, from, writes ? &out : NULL, begin, steps, 0);
        else
            lf_run_stateless(s, node, from, out, begin, steps);
        from = out;
    }
}

/* Direction d through all blocks in its own order; its outputs start at `y`. */
static void run_direction(lf_slice *s, const lf_node *node, int d, lf_view x, lf_view y, int64_t time) {
    const int backward = node->reverse || d == 1;
    for (int64_t done = 0; done < time && !lf_interrupted(s); done += s->w.block) {
        const int64_t steps = time - done < s->w.block ? time - done : s->w.block;
        const int64_t begin = backward ? time - done - steps : done;
        lf_view block = lf_shifted(y, begin);
        lf_run_cell(s, node, d, lf_shifted(x, begin), node->return_sequences ? &block : NULL, begin, steps, backward);
    }
}

/* Each half of the gang takes a direction, and need not wait for the other at every step. */
static void run_directions_at_once(lf_slice *s, const lf_node *node, lf_view x, const lf_view *y, int64_t time) {
    const lf_slice whole = *s;
    const int half = s->gang->size / 2, d = s->member / half;
    s->gang = &s->work->halves[d];
    s->member %= half;
    s->w.projection = s->w.projections[d];
    run_direction(s, node, d, x, y[d], time);
    *s = whole;
    lf_cell_follow(s, node->first_cell + 1 - d, time);
    lf_sync(s);
}

static void run_looking_back(lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t time) {
    lf_view to[2] = {y, y};
    to[1].data += node->cells[0].output_size * s->plan->kernels->item_size;
    if (lf_takes_directions_at_once(s, node))
        run_directions_at_once(s, node, x, to, time);
    else
        for (int d = 0; d < node->num_directions; d++)
            run_direction(s, node, d, x, to[d], time);
}

static void write_last_output(const lf_slice *s, const lf_node *node, lf_view y) {
    const int64_t item = s->plan->kernels->item_size;
    for (int d = 0; d < node->num_directions; d++) {
        const lf_cell_state *state = &s->w.cells[node->first_cell + d];
        const int64_t size = node->cells[d].output_size * item;
        for (int64_t row = 0; row < s->rows; row++)
            memcpy(y.data + row * y.batch_stride, (const char *)state->h + row * state->h_stride, (size_t)size);
        y.data += size;
    }
}

static void run_stage(lf_slice *s, const lf_stage *stage, lf_view x, lf_view y) {
    const lf_node *last = &s->plan->nodes[stage->last];
    const int64_t time = stage->collapsed ? 1 : s->time;
    if (lf_looks_back(last))
        run_looking_back(s, last, x, y, time);
    else if (s->w.links && lf_makes_pipeline(s, stage, time))
        lf_run_pipeline(s, stage, x, y, time);
    else
        for (int64_t begin = 0; begin < time && !lf_interrupted(s); begin += s->w.block) {
            const int64_t steps = time - begin < s->w.block ? time - begin : s->w.block;
            lf_run_layers(s, stage->first, stage->last, lf_shifted(x, begin), lf_shifted(y, begin), begin, steps);
        }
    if (last->kind == LF_RECURRENT && !last->return_sequences) {
        if (s->member == 0)
            write_last_output(s, last, y);
        lf_sync(s);
    }
}

void lf_run_stages(lf_slice *s, lf_view x, lf_view y) {
    const lf_plan *plan = s->plan;
    for (int64_t i = 0; i < plan->num_stages; i++) {
        const lf_stage *stage = &plan->stages[i];
        lf_view to = y;
        if (i + 1 < plan->num_stages) {
            const int64_t time = plan->stages[i + 1].collapsed ? 1 : s->time;
            to = stage_buffer(s, i, plan->nodes[stage->last].output_size, time);
        }
        run_stage(s, stage, x, to);
        x = to;
    }
}
