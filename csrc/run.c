/* run.c - one call: threads, slices of the batch, stages, blocks of time, steps. No instruction set, no number type. */
#include "layers.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
/* Denormals as zeros for the length of a call: some CPUs take them 18 times slower. */
static unsigned enter_flush_to_zero(void) {
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040);
    return saved;
}
static void leave_flush_to_zero(unsigned saved) { _mm_setcsr(saved); }
#else
static unsigned enter_flush_to_zero(void) { return 0; }
static void leave_flush_to_zero(unsigned saved) { (void)saved; }
#endif

static void enter_states(lf_slice *s) {
    for (int64_t i = 0; i < s->plan->num_nodes; i++) {
        const lf_node *node = &s->plan->nodes[i];
        for (int d = 0; d < node->num_directions; d++)
            lf_cell_enter(s, &node->cells[d], node->first_cell + d);
    }
}

static void leave_states(const lf_slice *s) {
    for (int64_t i = 0; i < s->plan->num_nodes; i++) {
        const lf_node *node = &s->plan->nodes[i];
        for (int d = 0; d < node->num_directions; d++)
            lf_cell_leave(s, &node->cells[d], node->first_cell + d);
    }
}

static void ask(const lf_call *call, int *stop) {
    if (call->interrupted && !__atomic_load_n(stop, __ATOMIC_RELAXED) && call->interrupted(call->context))
        __atomic_store_n(stop, 1, __ATOMIC_RELAXED);
}

/* Only the caller's own thread may ask, in the floating-point mode it came with: what it asks may run code of its own,
 * and start threads that inherit the mode. The others see the answer. */
static int interrupted(const lf_slice *s) {
    if (s->asks) {
        leave_flush_to_zero(s->callers_mode);
        ask(s->call, s->stop);
        enter_flush_to_zero();
    }
    return __atomic_load_n(s->stop, __ATOMIC_RELAXED);
}

static lf_view shifted(lf_view view, int64_t steps) {
    view.data += steps * view.time_stride;
    return view;
}

static lf_view block_buffer(const lf_slice *s, int64_t turn, int64_t features) {
    const int64_t row = features * s->plan->kernels->item_size;
    return (lf_view){s->w.values[turn & 1], row, row * s->rows};
}

static lf_view stage_buffer(const lf_slice *s, int64_t turn, int64_t features, int64_t time) {
    const int64_t step = features * s->plan->kernels->item_size;
    return (lf_view){s->w.stage[turn & 1], step * time, step};
}

/* The layers of a stage on steps [begin, begin + steps). */
static void run_block(lf_slice *s, const lf_stage *stage, lf_view x, lf_view y, int64_t begin, int64_t steps) {
    lf_view from = shifted(x, begin);
    for (int64_t i = stage->first; i <= stage->last; i++) {
        const lf_node *node = &s->plan->nodes[i];
        const int writes = node->kind != LF_RECURRENT || node->return_sequences;
        lf_view to = i == stage->last ? shifted(y, begin) : block_buffer(s, i, node->output_size);
        if (node->kind == LF_RECURRENT)
            lf_run_cell(s, node, 0, from, writes ? &to : NULL, begin, steps, 0);
        else
            lf_run_stateless(s, node, from, to, begin, steps);
        from = to;
    }
}

/* Each direction in turn, through all blocks in its own order. */
static void run_looking_back(lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t time) {
    lf_view to = y;
    for (int d = 0; d < node->num_directions; d++) {
        const int backward = node->reverse || d == 1;
        for (int64_t done = 0; done < time && !interrupted(s); done += s->w.block) {
            const int64_t steps = time - done < s->w.block ? time - done : s->w.block;
            const int64_t begin = backward ? time - done - steps : done;
            lf_view block = shifted(to, begin);
            lf_run_cell(s, node, d, shifted(x, begin), node->return_sequences ? &block : NULL, begin, steps, backward);
        }
        to.data += node->cells[d].output_size * s->plan->kernels->item_size;
    }
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
    else
        for (int64_t begin = 0; begin < time && !interrupted(s); begin += s->w.block) {
            const int64_t steps = time - begin < s->w.block ? time - begin : s->w.block;
            run_block(s, stage, x, y, begin, steps);
        }
    if (last->kind == LF_RECURRENT && !last->return_sequences)
        write_last_output(s, last, y);
}

static void run_stages(lf_slice *s, lf_view x, lf_view y) {
    const lf_plan *plan = s->plan;
    if (s->w.mask)
        memset(s->w.mask, 1, (size_t)(s->rows * s->time));
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

typedef struct {
    const lf_plan *plan;
    const lf_call *call;
    char *workspace;
    size_t workspace_size; /* of each slice */
    int num_slices;
    int64_t most_rows; /* at a time, in any slice */
    pthread_t caller;
    int stop;
} job;

/* Rows [first, end), rows_at_once at a time: rows never meet, so the cut changes no bit. */
static void run_rows(void *context, int index) {
    job *j = context;
    const lf_call *call = j->call;
    const int64_t end = call->batch * (index + 1) / j->num_slices;
    const int asks = pthread_equal(pthread_self(), j->caller);
    const unsigned saved = enter_flush_to_zero();
    for (int64_t first = call->batch * index / j->num_slices; first < end; first += j->most_rows) {
        lf_slice s = {.plan = j->plan, .call = call, .first_row = first, .time = call->time, .stop = &j->stop};
        s.rows = end - first < j->most_rows ? end - first : j->most_rows;
        s.asks = asks;
        s.callers_mode = saved;
        lf_layout(j->plan, s.rows, j->most_rows, s.time, j->workspace + (size_t)index * j->workspace_size, &s.w);
        enter_states(&s);
        const lf_view x = {(char *)(uintptr_t)call->x + first * call->x_batch_stride, call->x_batch_stride,
                           call->x_time_stride};
        const lf_view y = {(char *)call->y + first * call->y_batch_stride, call->y_batch_stride, call->y_time_stride};
        run_stages(&s, x, y);
        leave_states(&s);
    }
    leave_flush_to_zero(saved);
}

/* The caller has no slice left to run, but others have. */
static void ask_while_waiting(void *context) {
    job *j = context;
    ask(j->call, &j->stop);
}

static int slices_of(int64_t batch, int num_threads) {
    return batch < num_threads ? (int)batch : num_threads < 1 ? 1 : num_threads;
}

static int64_t most_rows(const lf_plan *plan, int64_t batch, int slices) {
    const int64_t rows = (batch + slices - 1) / slices;
    return rows < plan->rows_at_once ? rows : plan->rows_at_once;
}

static size_t slice_size(const lf_plan *plan, int64_t rows, int64_t time) {
    lf_workspace unused;
    return lf_layout(plan, rows, rows, time, NULL, &unused);
}

size_t lf_workspace_size(const lf_plan *plan, int64_t batch, int64_t time, int num_threads) {
    if (batch <= 0)
        return 0;
    const int slices = slices_of(batch, num_threads);
    size_t total;
    if (__builtin_mul_overflow(slice_size(plan, most_rows(plan, batch, slices), time), (size_t)slices, &total))
        return SIZE_MAX;
    return total;
}

/* Ids are checked before anything is written, so a refused call changes nothing. */
static lf_status check_ids(const lf_plan *plan, lf_call *call) {
    if (plan->nodes[0].kind != LF_EMBEDDING)
        return LF_OK;
    for (int64_t row = 0; row < call->batch; row++)
        for (int64_t step = 0; step < call->time; step++) {
            const char *at = (const char *)call->x + row * call->x_batch_stride + step * call->x_time_stride;
            int64_t id;
            memcpy(&id, at, sizeof id);
            if (id < 0 || id >= plan->nodes[0].input_size) {
                call->fault_row = row;
                call->fault_step = step;
                return LF_INDEX_RANGE;
            }
        }
    return LF_OK;
}

lf_status lf_run(const lf_plan *plan, lf_call *call, void *workspace) {
    const lf_status ids = check_ids(plan, call);
    if (ids != LF_OK || call->batch == 0)
        return ids;
    job j = {.plan = plan, .call = call, .workspace = workspace, .caller = pthread_self()};
    j.num_slices = slices_of(call->batch, call->num_threads);
    j.most_rows = most_rows(plan, call->batch, j.num_slices);
    j.workspace_size = slice_size(plan, j.most_rows, call->time);
    if (j.num_slices == 1)
        run_rows(&j, 0);
    else
        lf_team_run(j.num_slices, run_rows, ask_while_waiting, &j);
    return j.stop ? LF_INTERRUPTED : LF_OK;
}
