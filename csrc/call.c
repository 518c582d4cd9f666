/* call.c - one call: how it is divided among threads, their slices and states, interruptions. */
#include "layers.h"

#include <string.h>

enum { IDS_BETWEEN_POLLS = 1 << 24 };

#if defined(__x86_64__)
#include <xmmintrin.h>
/* The floating-point mode of a call, in every thread and whatever the caller's: to nearest, nothing traps, and
 * denormals are zeros, as some CPUs take them 18 times slower. */
enum { OWN_MODE = _MM_ROUND_NEAREST | _MM_MASK_MASK | _MM_FLUSH_ZERO_ON | 0x40 /* denormal operands are zeros */ };
static unsigned enter_own_mode(void) {
    const unsigned callers = _mm_getcsr();
    _mm_setcsr(OWN_MODE);
    return callers;
}
static void leave_own_mode(unsigned callers) { _mm_setcsr(callers); }
#else
static unsigned enter_own_mode(void) { return 0; }
static void leave_own_mode(unsigned callers) { (void)callers; }
#endif

static void enter(const lf_slice *s) {
    if (s->w.mask)
        memset(s->w.mask, 1, (size_t)(s->rows * s->time));
    for (int64_t i = 0; i < s->plan->num_nodes; i++) {
        const lf_node *node = &s->plan->nodes[i];
        for (int d = 0; d < node->num_directions; d++)
            lf_cell_enter(s, &node->cells[d], node->first_cell + d);
    }
}

static void leave(const lf_slice *s) {
    for (int64_t i = 0; i < s->plan->num_nodes; i++) {
        const lf_node *node = &s->plan->nodes[i];
        for (int d = 0; d < node->num_directions; d++)
            lf_cell_leave(s, &node->cells[d], node->first_cell + d);
    }
}

/* Asks on the caller's own thread, in the floating-point mode it came with: what it asks may run code of its own, and
 * start threads that inherit the mode. It may also fork. */
static void ask(lf_work *w) {
    if (w->call.interrupted && !w->stop && w->call.interrupted(w->call.context))
        __atomic_store_n(&w->stop, 1, __ATOMIC_RELAXED);
    if (lf_team_forks() != w->forks && w->all.size > 1) {
        w->forked = 1;
        w->all.size = w->halves[0].size = w->halves[1].size = 1;
    }
}

int lf_interrupted(lf_slice *s) {
    lf_work *w = s->work;
    lf_gang *gang = s->gang;
    if (s->member == 0) {
        if (s->asks) {
            leave_own_mode(s->callers_mode);
            ask(w);
            enter_own_mode();
        }
        const int stop = __atomic_load_n(&w->stop, __ATOMIC_RELAXED) || (s->asks && w->forked);
        if (stop && gang->stop_at > s->polls)
            __atomic_store_n(&gang->stop_at, s->polls, __ATOMIC_RELAXED);
    }
    lf_sync(s);
    return __atomic_load_n(&gang->stop_at, __ATOMIC_RELAXED) <= s->polls++;
}

/* Rows first, first + step, ..., as many at a time as the plan allows: rows never meet, so the cut changes no bit. */
static void run_rows(lf_work *w, lf_gang *gang, int member, int asks, int64_t first, int64_t step, char *workspace) {
    const lf_call *call = &w->call;
    const unsigned callers_mode = enter_own_mode();
    for (int64_t left = (call->batch - first + step - 1) / step; left > 0; left -= w->split.most_rows) {
        lf_slice s = {.plan = w->plan,
                      .call = call,
                      .first_row = first,
                      .row_step = step,
                      .rows = left < w->split.most_rows ? left : w->split.most_rows,
                      .time = call->time,
                      .gang = gang,
                      .member = member,
                      .asks = asks,
                      .callers_mode = callers_mode,
                      .work = w};
        lf_extent extent = w->split.extent;
        extent.rows = s.rows;
        extent.member = member;
        lf_layout(w->plan, &extent, workspace, &s.w);
        if (member == 0)
            enter(&s);
        lf_sync(&s);
        const lf_view x = {(char *)(uintptr_t)call->x + first * call->x_batch_stride, step * call->x_batch_stride,
                           call->x_time_stride};
        const lf_view y = {(char *)call->y + first * call->y_batch_stride, step * call->y_batch_stride,
                           call->y_time_stride};
        lf_run_stages(&s, x, y);
        if (member == 0)
            leave(&s);
        lf_sync(&s);
        first += s.rows * step;
    }
    leave_own_mode(callers_mode);
}

/* Ids are checked before anything is written, so a refused call changes nothing. */
static lf_status check_ids(const lf_plan *plan, lf_call *call) {
    if (plan->nodes[0].kind != LF_EMBEDDING)
        return LF_OK;
    int64_t checked = 0;
    for (int64_t row = 0; row < call->batch; row++)
        for (int64_t step = 0; step < call->time; step++) {
            if (++checked % IDS_BETWEEN_POLLS == 0 && call->interrupted && call->interrupted(call->context))
                return LF_INTERRUPTED;
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

/* A member of a gang that divides the units of every layer among its members. */
static void run_units(void *context, int member) {
    lf_work *w = context;
    run_rows(w, &w->all, member, member == 0, 0, 1, w->slices);
}

/* Takes slices of the batch until none is left. Rows are dealt out in turn, for those of a ragged batch often come in
 * the order of their lengths. */
static void run_slices(void *context, int member) {
    lf_work *w = context;
    const int64_t slices = w->split.slices;
    const size_t size = slices > 1 ? lf_slice_size(w->plan, &w->split) : 0;
    lf_gang alone;
    for (int64_t i; (i = __atomic_fetch_add(&w->next_slice, 1, __ATOMIC_RELAXED)) < slices;) {
        lf_gang_init(&alone, 1);
        run_rows(w, &alone, 0, member == 0, i, slices, w->slices + (size_t)i * size);
    }
}

static void begin(void *context, int members) {
    lf_work *w = context;
    lf_gang_init(&w->all, members);
    for (int d = 0; d < 2; d++)
        lf_gang_init(&w->halves[d], members > 1 ? members / 2 : 1);
}

/* The caller has nothing left to run, but others have. */
static void ask_while_waiting(void *context) { ask(context); }

lf_status lf_run(const lf_plan *plan, lf_call *call, void *workspace) {
    const lf_status ids = check_ids(plan, call);
    if (ids != LF_OK || call->batch == 0)
        return ids;
    lf_work *w = workspace;
    w->plan = plan;
    w->call = *call;
    w->slices = (char *)workspace + sizeof *w;
    lf_split_call(plan, call->batch, call->time, &w->split);
    w->job = (lf_job){begin, w->split.by_units ? run_units : run_slices, ask_while_waiting, w};
    for (int members = w->split.members;; members = 1) {
        w->next_slice = 0;
        w->stop = w->forked = 0;
        w->forks = lf_team_forks();
        const int complete = lf_team_run(members, w->split.patience, &w->job);
        if (w->stop)
            return LF_INTERRUPTED;
        if (complete)
            return LF_OK;
    }
}
