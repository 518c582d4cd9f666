/* cell.c - one direction of a recurrent layer over a block of time. */
#include "layers.h"

#include <string.h>

/* The input is summed inside the step, not in a pass of its own, where it is this narrow, or where there are rows
 * enough to fill the tiles anyway and so many to its weights that reading these at every step costs less than the pass.
 */
enum { ONE_PASS_FEATURES = 8, ONE_PASS_ROWS = 16, ONE_PASS_BYTES = 64 * 1024 };

/* A cell at work on one block: what stays the same from step to step, and the arguments of each part's step. */
typedef struct {
    const lf_slice *s;
    const lf_node *node;
    const lf_cell_plan *cell;
    lf_cell_state *state;
    lf_view x;
    const lf_view *y;  /* NULL where only the state is wanted */
    int ragged;        /* some rows sit out some steps */
    int hoists;        /* x is projected for the whole block before its first step */
    int64_t done;      /* steps of the sequence before the block, in the order in which they run */
    int starts_free;   /* its first step leaves the product of the gates with the state out */
    int64_t copies[2]; /* of the parts' recurrent weights, read in turn */
    lf_step_fn kernels[2];
    lf_step parts[2];
    char *projected[2]; /* rows (time, batch) of pre-activations, projected_stride bytes apart */
    int64_t projected_stride;
} cell_run;

static void copy_rows(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t size, int64_t rows) {
    for (int64_t row = 0; row < rows; row++)
        memcpy(to + row * to_stride, from + row * from_stride, (size_t)size);
}

static void enter(const lf_slice *s, void *to, int64_t stride, const void *from, int64_t size) {
    memset(to, 0, (size_t)(stride * s->rows));
    if (from)
        copy_rows(to, stride, (const char *)from + s->first_row * size, s->row_step * size, size, s->rows);
}

static void leave(const lf_slice *s, void *to, const void *from, int64_t stride, int64_t size) {
    if (to)
        copy_rows((char *)to + s->first_row * size, s->row_step * size, from, stride, size, s->rows);
}

/* All bytes are as the first, which is 0; so -0 is no zero. */
static int is_zero(const char *state, int64_t size) {
    return *state == 0 && !memcmp(state, state + 1, (size_t)size - 1);
}

void lf_cell_enter(const lf_slice *s, const lf_cell_plan *cell, int64_t index) {
    const lf_state *state = &s->call->states[index];
    const lf_cell_state *own = &s->w.cells[index];
    const int64_t item = s->plan->kernels->item_size;
    enter(s, own->h, own->h_stride, state->h_in, cell->output_size * item);
    enter(s, own->c, own->c_stride, cell->kind == LF_LSTM ? state->c_in : NULL, cell->hidden_size * item);
    s->w.starts_free[index] =
        cell->may_start_free && is_zero(own->h, own->h_stride * s->rows) && is_zero(own->c, own->c_stride * s->rows);
}

void lf_cell_leave(const lf_slice *s, const lf_cell_plan *cell, int64_t index) {
    const lf_state *state = &s->call->states[index];
    const lf_cell_state *own = &s->w.cells[index];
    const int64_t item = s->plan->kernels->item_size;
    leave(s, state->h_out, own->h, own->h_stride, cell->output_size * item);
    leave(s, state->c_out, own->c, own->c_stride, cell->hidden_size * item);
}

static void swap_outputs(lf_cell_state *state) {
    void *const h = state->h;
    state->h = state->h_next;
    state->h_next = h;
}

void lf_cell_follow(const lf_slice *s, int64_t index, int64_t steps) {
    if (steps % 2)
        swap_outputs(&s->w.cells[index]);
}

static void choose_kernels(cell_run *r) {
    const lf_kernels *k = r->s->plan->kernels;
    const lf_step_fn gru = r->cell->split_reset ? k->gru_gates : k->gru;
    r->kernels[0] = r->cell->kind == LF_LSTM ? k->lstm : r->cell->kind == LF_GRU ? gru : k->rnn;
    r->kernels[1] = r->cell->split_reset ? k->gru_candidate : k->rnn;
}

/* Every step walks over the panels the other way than the one before it, whose last weights a cache still has. For
 * single steps it goes on so from call to call, where a step's weights exceed the second-level cache; where they fit
 * it, walking one way is a little faster. With more steps it does not matter how the first one goes. */
static int begins_descending(const cell_run *r, const lf_part *part) {
    const int64_t terms = part->inputs + (r->starts_free ? 0 : part->recurrent);
    const int64_t bytes = part->columns * terms * r->s->plan->kernels->item_size / r->s->gang->size;
    const int turned = bytes > r->s->plan->cached_bytes && r->s->call->turned;
    return (r->done + turned) & 1;
}

/* What of the parts' arguments no step changes. The first part of two hands its result on in state->part. */
static void prepare_parts(cell_run *r) {
    const lf_cell_plan *cell = r->cell;
    const lf_cell_state *state = r->state;
    for (int p = 0; p < cell->num_parts; p++) {
        lf_step *step = &r->parts[p];
        *step = lf_own_step(r->s, &cell->parts[p]);
        step->n = r->s->rows;
        step->h_stride = step->h_next_stride = step->h_prev_stride = state->h_stride;
        step->c = state->c;
        step->c_stride = state->c_stride;
        step->gate = cell->gate;
        step->candidate = cell->candidate;
        step->output = cell->output;
        step->descending = begins_descending(r, step->part);
        r->copies[p] = r->s->rows == 1 ? lf_copies_in_turn(r->s->plan, step->part, r->s->gang->size) : 1;
    }
    if (cell->kind == LF_GRU && !cell->split_reset)
        r->parts[0].init_hn = cell->parts[0].bias_hn;
    if (cell->num_parts == 2) {
        r->parts[0].h_next_stride = r->parts[1].h_stride = state->c_stride;
        r->parts[1].h = state->part;
    }
    if (cell->projected)
        r->parts[1].candidate = (lf_activation){LF_LINEAR, 0, 0};
}

static int within_length(const lf_slice *s, int64_t row, int64_t t) {
    return !s->call->lengths || t < s->call->lengths[s->first_row + row * s->row_step];
}

static int counts(const lf_slice *s, int64_t row, int64_t t) {
    return within_length(s, row, t) && (!s->w.mask || s->w.mask[t * s->rows + row]);
}

/* The x part of every pre-activation of the block that this member will go on with, the parts' rows side by side; those
 * of rows that sit a step out hold anything. */
static void project(cell_run *r, int64_t begin, int64_t steps) {
    const lf_slice *s = r->s;
    const int64_t item = s->plan->kernels->item_size;
    r->projected_stride = r->cell->hoisted * item;
    int64_t n = 0;
    for (int64_t t = 0; t < steps; t++)
        for (int64_t row = 0; row < s->rows; row++) {
            const int64_t at = t * s->rows + row;
            s->w.x[at] = r->x.data + row * r->x.batch_stride + t * r->x.time_stride;
            if (!r->ragged || counts(s, row, begin + t))
                s->w.rows[n++] = (int32_t)at;
        }
    char *out = s->w.projection;
    for (int p = 0; p < r->cell->num_parts && r->cell->parts[p].inputs; p++) {
        const lf_part *part = &r->cell->parts[p];
        lf_step step = lf_own_step(s, part);
        step.n = n;
        step.rows = r->ragged ? s->w.rows : NULL;
        step.x = s->w.x;
        step.init_hn = part->bias_hn;
        step.out = out;
        step.out_stride = r->projected_stride;
        lf_run_step(s->plan, r->kernels[p], &step);
        r->projected[p] = out;
        out += part->columns * item;
    }
}

/* Points a part at its x of step t of the block: rows projected before, or x itself. */
static void point_at_input(cell_run *r, int p, int64_t t) {
    if (r->hoists) {
        r->parts[p].init = r->projected[p] + t * r->s->rows * r->projected_stride;
        r->parts[p].init_stride = r->projected_stride;
    } else {
        r->parts[p].x = r->s->w.x;
    }
}

static void point_at_step(cell_run *r, int64_t t) {
    const lf_slice *s = r->s;
    for (int64_t row = 0; row < s->rows; row++) {
        s->w.y[row] = r->y ? r->y->data + row * r->y->batch_stride + t * r->y->time_stride : NULL;
        if (!r->hoists)
            s->w.x[row] = r->x.data + row * r->x.batch_stride + t * r->x.time_stride;
    }
    point_at_input(r, 0, t);
    if (r->cell->split_reset)
        point_at_input(r, 1, t);
    r->parts[r->cell->num_parts - 1].y = r->y ? s->w.y : NULL;
}

/* Lists the rows that count at step t of the sequence. */
static void list_active_rows(cell_run *r, int64_t t) {
    const lf_slice *s = r->s;
    int64_t n = 0;
    for (int64_t row = 0; row < s->rows; row++)
        if (counts(s, row, t))
            s->w.rows[n++] = (int32_t)row;
    for (int p = 0; p < r->cell->num_parts; p++) {
        r->parts[p].n = n;
        r->parts[p].rows = s->w.rows;
    }
}

/* A row that sits out keeps its state; its output is zero, or the previous one where the layer repeats it. */
static void hold_row(const cell_run *r, int64_t row, int64_t t) {
    const lf_slice *s = r->s;
    const size_t size = (size_t)(r->cell->output_size * s->plan->kernels->item_size);
    const char *h = (const char *)r->state->h + row * r->state->h_stride;
    memcpy((char *)r->state->h_next + row * r->state->h_stride, h, (size_t)r->state->h_stride);
    if (!r->y)
        return;
    if (r->node->repeat_masked && within_length(s, row, t))
        memcpy(s->w.y[row], h, size);
    else
        memset(s->w.y[row], 0, size);
}

static void hold_inactive_rows(const cell_run *r, int64_t t) {
    int64_t next = 0;
    for (int64_t row = 0; row < r->s->rows; row++) {
        if (next < r->parts[0].n && r->s->w.rows[next] == row)
            next++;
        else
            hold_row(r, row, t);
    }
}

/* What other members have just written comes from their caches: all of it at once, not line by line as the sums go on.
 */
static void fetch_outputs(const cell_run *r) {
    const int64_t size = r->s->gang->size > 1 ? r->s->rows * r->state->h_stride : 0;
    for (int64_t at = 0; at < size; at += LF_ALIGN)
        __builtin_prefetch((const char *)r->state->h + at);
}

/* The next step walks the panels the other way, and reads another copy. */
static void turn(lf_step *step, int64_t copies) {
    const lf_part *part = step->part;
    const char *const next = (const char *)step->w_h + part->copy_bytes;
    step->w_h = next < (const char *)part->w_h + copies * part->copy_bytes ? next : part->w_h;
    step->descending ^= 1;
}

/* Step i of the block. The gang meets whether or not any row counts: if somebody writes into the lengths meanwhile,
 * members may see it differently, and must not wait for one another in vain. */
static void run_parts(cell_run *r, int64_t i) {
    lf_cell_state *state = r->state;
    const int two = r->cell->num_parts == 2;
    r->parts[0].h_prev = state->h;
    r->parts[0].h = i == 0 && r->starts_free ? NULL : state->h;
    r->parts[0].h_next = two ? state->part : state->h_next;
    lf_run_step(r->s->plan, r->kernels[0], &r->parts[0]);
    if (two) {
        lf_sync(r->s);
        r->parts[1].h_prev = state->h;
        r->parts[1].h_next = state->h_next;
        lf_run_step(r->s->plan, r->kernels[1], &r->parts[1]);
        turn(&r->parts[1], r->copies[1]);
    }
    turn(&r->parts[0], r->copies[0]);
}

static int takes_one_pass(const cell_run *r) {
    const int64_t bytes = r->cell->hoisted * r->cell->input_size * r->s->plan->kernels->item_size;
    return r->cell->input_size <= ONE_PASS_FEATURES ||
           (r->s->rows >= ONE_PASS_ROWS && bytes <= r->s->rows * ONE_PASS_BYTES);
}

void lf_run_cell(lf_slice *s, const lf_node *node, int d, lf_view x, const lf_view *y, int64_t begin, int64_t steps,
                 int backward) {
    cell_run r = {.s = s,
                  .node = node,
                  .cell = &node->cells[d],
                  .state = &s->w.cells[node->first_cell + d],
                  .x = x,
                  .y = y,
                  .ragged = s->call->lengths || s->w.mask,
                  .done = backward ? s->time - begin - steps : begin};
    r.hoists = s->plan->backend == LF_BLAS || (steps > 1 && !takes_one_pass(&r));
    r.starts_free = r.done == 0 && s->w.starts_free[node->first_cell + d];
    choose_kernels(&r);
    prepare_parts(&r);
    if (r.hoists)
        project(&r, begin, steps);
    for (int64_t i = 0; i < steps; i++) {
        const int64_t t = backward ? steps - 1 - i : i;
        point_at_step(&r, t);
        if (r.ragged)
            list_active_rows(&r, begin + t);
        fetch_outputs(&r);
        run_parts(&r, i);
        if (r.ragged && s->member == 0)
            hold_inactive_rows(&r, begin + t);
        lf_sync(s);
        swap_outputs(r.state);
    }
}
