/* cell.c - one direction of a recurrent layer over a block of time. */
#include "run.h"

#include <string.h>

/* Up to this many features the input is summed inside the step: cheaper than a pass of its own. */
enum { FOLDED_FEATURES = 8, FOLDED_ROWS = 16 };

static void copy_rows(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t size, int64_t rows) {
    for (int64_t row = 0; row < rows; row++)
        memcpy(to + row * to_stride, from + row * from_stride, (size_t)size);
}

static void enter(const lf_slice *s, void *to, int64_t stride, const void *from, int64_t size) {
    memset(to, 0, (size_t)(stride * s->rows));
    if (from)
        copy_rows(to, stride, (const char *)from + s->first_row * size, size, size, s->rows);
}

void lf_cell_enter(const lf_slice *s, const lf_cell_plan *cell, int64_t index) {
    const lf_state *state = &s->call->states[index];
    const lf_cell_state *own = &s->w.cells[index];
    const int64_t item = (int64_t)s->plan->kernels->item_size;
    enter(s, own->h, own->h_stride, state->h_in, cell->output_size * item);
    enter(s, own->c, own->c_stride, cell->kind == LF_LSTM ? state->c_in : NULL, cell->hidden_size * item);
}

void lf_cell_leave(const lf_slice *s, const lf_cell_plan *cell, int64_t index) {
    const lf_state *state = &s->call->states[index];
    const lf_cell_state *own = &s->w.cells[index];
    const int64_t item = (int64_t)s->plan->kernels->item_size;
    const int64_t h_size = cell->output_size * item, c_size = cell->hidden_size * item;
    if (state->h_out)
        copy_rows((char *)state->h_out + s->first_row * h_size, h_size, own->h, own->h_stride, h_size, s->rows);
    if (state->c_out)
        copy_rows((char *)state->c_out + s->first_row * c_size, c_size, own->c, own->c_stride, c_size, s->rows);
}

/* The x part of every pre-activation of the block, parts side by side: element 0 of part p's rows is returned in
 * first[p], rows (time, batch) are `stride` bytes apart. */
static void project(const lf_slice *s, const lf_cell_plan *cell, lf_step_fn kernels[2], lf_view x, int64_t steps,
                    char *first[2], int64_t *stride) {
    const int64_t item = (int64_t)s->plan->kernels->item_size;
    *stride = (int64_t)lf_projection_size(cell, s->plan->kernels->lanes) * item;
    for (int64_t t = 0; t < steps; t++)
        for (int64_t row = 0; row < s->rows; row++)
            s->w.x[t * s->rows + row] = x.data + row * x.batch_stride + t * x.time_stride;
    char *out = s->w.projection;
    for (int p = 0; p < cell->num_parts && cell->parts[p].inputs; p++) {
        const lf_part *part = &cell->parts[p];
        const lf_step step = {.part = part, .n = s->rows * steps, .x = s->w.x, .init = part->bias,
                              .init_hn = part->bias_hn, .out = out, .out_stride = *stride, .scratch = s->w.blas};
        lf_run_step(s->plan, kernels[p], &step);
        first[p] = out;
        out += part->gates * part->panels * s->plan->kernels->lanes * item;
    }
}

static void choose_kernels(const lf_kernels *k, const lf_cell_plan *cell, lf_step_fn chosen[2]) {
    chosen[0] = cell->kind == LF_LSTM ? k->lstm : cell->kind == LF_RNN ? k->rnn : cell->split_reset ? k->gru_gates : k->gru;
    chosen[1] = cell->split_reset ? k->gru_candidate : k->rnn;
}

/* Rows that count at step t, in w.rows; returns how many. */
static int64_t active_rows(const lf_slice *s, int64_t t) {
    int64_t n = 0;
    for (int64_t row = 0; row < s->rows; row++) {
        const int within = !s->call->lengths || t < s->call->lengths[s->first_row + row];
        if (within && (!s->w.mask || s->w.mask[t * s->rows + row]))
            s->w.rows[n++] = (int32_t)row;
    }
    return n;
}

/* Rows that do not count keep their state; their output is zero, or the previous output where the layer repeats it. */
static void hold_rows(const lf_slice *s, const lf_node *node, const lf_cell_state *state, int64_t size, int64_t n,
                      int64_t t) {
    int64_t next = 0;
    for (int64_t row = 0; row < s->rows; row++) {
        if (next < n && s->w.rows[next] == row) {
            next++;
            continue;
        }
        const char *h = (const char *)state->h + row * state->h_stride;
        memcpy((char *)state->h_next + row * state->h_stride, h, (size_t)state->h_stride);
        if (!s->w.y[row])
            continue;
        const int within = !s->call->lengths || t < s->call->lengths[s->first_row + row];
        if (node->repeat_masked && within)
            memcpy(s->w.y[row], h, (size_t)size);
        else
            memset(s->w.y[row], 0, (size_t)size);
    }
}

/* One step of the active rows: gates first, then the second part where the cell has one. */
static void run_step(const lf_slice *s, const lf_cell_plan *cell, lf_step_fn kernels[2], lf_step *gates,
                     lf_step *second, lf_cell_state *state) {
    const int two = cell->num_parts == 2;
    gates->h = gates->h_prev = state->h;
    gates->h_next = two ? state->part : state->h_next;
    lf_run_step(s->plan, kernels[0], gates);
    if (two) {
        second->h_prev = state->h;
        second->h_next = state->h_next;
        second->rows = gates->rows;
        second->n = gates->n;
        lf_run_step(s->plan, kernels[1], second);
    }
}

void lf_run_cell(lf_slice *s, const lf_node *node, int d, lf_view x, const lf_view *y, int64_t begin, int64_t steps,
                 int backward) {
    const lf_cell_plan *cell = &node->cells[d];
    lf_cell_state *state = &s->w.cells[node->first_cell + d];
    const int64_t size = cell->output_size * (int64_t)s->plan->kernels->item_size;
    const int ragged = s->call->lengths || s->w.mask;
    const int hoists = s->plan->backend == LF_BLAS ||
                       (steps > 1 && cell->input_size > FOLDED_FEATURES && s->rows < FOLDED_ROWS);
    const int two = cell->num_parts == 2;
    lf_step_fn kernels[2];
    choose_kernels(s->plan->kernels, cell, kernels);

    char *projected[2] = {NULL, NULL};
    int64_t projected_stride = 0;
    if (hoists)
        project(s, cell, kernels, x, steps, projected, &projected_stride);

    lf_step gates = {.part = &cell->parts[0], .n = s->rows, .h_stride = state->h_stride, .init = cell->parts[0].bias,
                     .h_prev_stride = state->h_stride, .c = state->c, .c_stride = state->c_stride,
                     .h_next_stride = two ? state->c_stride : state->h_stride, .gate = cell->gate,
                     .candidate = cell->candidate, .output = cell->output, .scratch = s->w.blas};
    if (cell->kind == LF_GRU && !cell->split_reset)
        gates.init_hn = cell->parts[0].bias_hn;
    lf_step second = gates;
    second.part = &cell->parts[1];
    second.init = cell->parts[1].bias;
    second.h = state->part;
    second.h_stride = state->c_stride;
    second.h_next_stride = state->h_stride;
    if (cell->projected)
        second.candidate = (lf_activation){LF_LINEAR, 0, 0};

    const int64_t init_stride = projected_stride;
    for (int64_t i = 0; i < steps; i++) {
        const int64_t t = backward ? steps - 1 - i : i;
        for (int64_t row = 0; row < s->rows; row++) {
            s->w.y[row] = y ? y->data + row * y->batch_stride + t * y->time_stride : NULL;
            if (!hoists)
                s->w.x[row] = x.data + row * x.batch_stride + t * x.time_stride;
        }
        if (hoists) {
            gates.init = projected[0] + t * s->rows * init_stride;
            gates.init_stride = init_stride;
            if (cell->split_reset) {
                second.init = projected[1] + t * s->rows * init_stride;
                second.init_stride = init_stride;
            }
        } else {
            gates.x = s->w.x;
            second.x = cell->split_reset ? s->w.x : NULL;
        }
        void *const *outputs = y ? s->w.y : NULL;
        gates.y = two ? NULL : outputs;
        second.y = outputs;
        if (ragged) {
            gates.n = active_rows(s, begin + t);
            gates.rows = s->w.rows;
        }
        if (gates.n)
            run_step(s, cell, kernels, &gates, &second, state);
        if (ragged && gates.n < s->rows)
            hold_rows(s, node, state, size, gates.n, begin + t);
        void *const h = state->h;
        state->h = state->h_next;
        state->h_next = h;
    }
}
