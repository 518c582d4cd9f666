/* workspace.c - one call's memory: how much, and where in it everything lies.
 *
 * lf_layout measures when `base` is NULL and carves otherwise, by the same text, so the two cannot disagree.
 *
 * Size of a slice of B rows at most (' means padded to whole vectors, n is time steps per block, up to 192), in
 * numbers: B * (2 P' + 2 H') for each cell, its states and what passes between its parts
 *   + n * B * (G H' of the widest cell + 2 F of the widest layer), the block's pre-activations and values
 *   + n * B * (I + (G + 1) H') of the widest part, with BLAS only
 *   + n * B * G H' once more where two gangs of threads take a direction each
 *   + n * B * (G H' + 4 F) for each member of a pipeline of layers
 *   + F' for each member, a softmax
 *   + T * B * 2 F, only where a network looks backwards in time and has other layers before or behind;
 * and in bytes n * B * 20 for each member, row addresses; 48 for each cell and member, where its states lie, and one
 * for each cell; and T * B only where a layer makes masks. Without the two terms in T nothing grows with it. Some 50
 * KiB go before the slices: what the members of a call share. With several threads it is enough for each way that
 * split.c may divide the call. What comes to 1 MiB and more is allocated in whole pages of 2 MiB.
 */
#include "workspace.h"

#include <string.h>

enum { BLOCK_BYTES = 1024 * 1024, BLOCK_ROWS = 192, PIPELINE_BLOCKS = 12, LEAST_BLOCK = 12 };

int64_t lf_pipeline_block(int64_t time) {
    const int64_t steps = (time + PIPELINE_BLOCKS - 1) / PIPELINE_BLOCKS;
    return steps > LEAST_BLOCK ? steps : LEAST_BLOCK;
}

static size_t widest_layer(const lf_plan *plan) {
    int64_t widest = 1;
    for (int64_t i = 0; i < plan->num_nodes; i++)
        widest = plan->nodes[i].output_size > widest ? plan->nodes[i].output_size : widest;
    return (size_t)widest;
}

static size_t widest_projection(const lf_plan *plan) {
    size_t widest = 0;
    for (int64_t i = 0; i < plan->num_nodes; i++)
        for (int d = 0; d < plan->nodes[i].num_directions; d++) {
            const size_t columns = (size_t)plan->nodes[i].cells[d].hoisted;
            widest = columns > widest ? columns : widest;
        }
    return widest;
}

static size_t blas_scratch(const lf_plan *plan, int64_t rows) {
    size_t most = 0;
    for (int64_t i = 0; i < plan->num_nodes; i++) {
        const lf_node *node = &plan->nodes[i];
        const lf_part *parts[] = {&node->part, &node->cells[0].parts[0], &node->cells[0].parts[1],
                                  &node->cells[1].parts[0], &node->cells[1].parts[1]};
        for (int p = 0; p < 5; p++) {
            const size_t size = lf_blas_scratch(parts[p], rows, plan->kernels->item_size);
            most = size > most ? size : most;
        }
    }
    return most;
}

/* Time steps per block, blocks of equal size: what fits the second-level cache, at least enough rows that the weights
 * of x, read once a block, are not what a block waits for, and never so many that a poll is long in coming. */
static int64_t block_steps(const lf_plan *plan, const lf_extent *extent) {
    const int64_t batch = extent->most, time = extent->time;
    const size_t step =
        (size_t)batch * (widest_projection(plan) + 2 * widest_layer(plan)) * (size_t)plan->kernels->item_size;
    /* BLAS has as much scratch beside the block, and reads weights in an order of its own. */
    const int blas = plan->backend == LF_BLAS;
    const int64_t fitting = (int64_t)((blas ? BLOCK_BYTES / 2 : BLOCK_BYTES) / (step ? step : 1));
    const int64_t least = blas ? 1 : (BLOCK_ROWS + batch - 1) / batch;
    int64_t steps = fitting > BLOCK_ROWS ? BLOCK_ROWS : fitting < least ? least : fitting;
    if (steps * batch > plan->rows_a_block)
        steps = plan->rows_a_block > batch ? plan->rows_a_block / batch : 1;
    if (extent->pipelined && steps > lf_pipeline_block(time))
        steps = lf_pipeline_block(time);
    const int64_t blocks = (time + steps - 1) / steps;
    return time < 1 ? 1 : (time + blocks - 1) / blocks; /* a chain behind a last output runs where T = 0 */
}

/* One member's of as many as there are members. */
static void *carve_own(lf_carver *c, const lf_extent *extent, size_t count, size_t size) {
    const size_t lines = (count * size + LF_ALIGN - 1) / LF_ALIGN;
    char *all = lf_carve(c, lines * (size_t)extent->members, LF_ALIGN);
    return all ? all + (size_t)extent->member * lines * LF_ALIGN : NULL;
}

static void carve_pipeline(lf_carver *c, const lf_plan *plan, lf_workspace *w, const lf_extent *extent) {
    const size_t item = (size_t)plan->kernels->item_size, rows = (size_t)(extent->rows * w->block);
    const size_t lines = (rows * widest_layer(plan) * item + LF_ALIGN - 1) / LF_ALIGN;
    for (int i = 0; i < 2; i++)
        w->own_values[i] = carve_own(c, extent, rows * widest_layer(plan), item);
    w->own_projection = carve_own(c, extent, rows * widest_projection(plan), item);
    w->links = lf_carve(c, 2 * lines * (size_t)extent->members, LF_ALIGN);
    w->link_size = lines * LF_ALIGN;
}

static void carve_states(lf_carver *c, const lf_plan *plan, lf_workspace *w, const lf_extent *extent) {
    const int64_t item = plan->kernels->item_size;
    const size_t batch = (size_t)extent->rows;
    w->cells = carve_own(c, extent, (size_t)plan->num_cells, sizeof *w->cells);
    for (int64_t i = 0; i < plan->num_nodes; i++)
        for (int d = 0; d < plan->nodes[i].num_directions; d++) {
            const lf_cell_plan *cell = &plan->nodes[i].cells[d];
            const lf_part *gates = &cell->parts[0], *last = &cell->parts[cell->num_parts - 1];
            lf_cell_state state = {.h_stride = last->padded * item, .c_stride = gates->padded * item};
            state.h = lf_carve(c, batch, (size_t)state.h_stride);
            state.h_next = lf_carve(c, batch, (size_t)state.h_stride);
            state.c = lf_carve(c, batch, (size_t)state.c_stride);
            state.part = lf_carve(c, batch, (size_t)state.c_stride);
            if (w->cells)
                w->cells[plan->nodes[i].first_cell + d] = state;
        }
}

static void carve_stages(lf_carver *c, const lf_plan *plan, lf_workspace *w, size_t batch, size_t time) {
    size_t most[2] = {0, 0};
    for (int64_t s = 0; s + 1 < plan->num_stages; s++) {
        const size_t steps = plan->stages[s + 1].collapsed ? 1 : time;
        const size_t size = steps * (size_t)plan->nodes[plan->stages[s].last].output_size;
        most[s & 1] = size > most[s & 1] ? size : most[s & 1];
    }
    for (int i = 0; i < 2; i++)
        w->stage[i] = lf_carve(c, batch, most[i] * (size_t)plan->kernels->item_size);
}

size_t lf_layout(const lf_plan *plan, const lf_extent *extent, void *base, lf_workspace *w) {
    lf_carver c = {base, 0, 0};
    const size_t item = (size_t)plan->kernels->item_size, B = (size_t)extent->rows, T = (size_t)extent->time;
    memset(w, 0, sizeof *w);
    if (extent->time > (int64_t)1 << 32) /* keeps time * features * item below 2^63 */
        return SIZE_MAX;
    w->block = block_steps(plan, extent);
    const size_t rows = B * (size_t)w->block;
    carve_states(&c, plan, w, extent);
    w->starts_free = lf_carve(&c, (size_t)plan->num_cells, 1);
    carve_stages(&c, plan, w, B, T);
    for (int i = 0; i < 2; i++)
        w->values[i] = lf_carve(&c, rows * widest_layer(plan), item);
    for (int i = 0; i < (extent->members > 1 && plan->two_directions ? 2 : 1); i++)
        w->projections[i] = lf_carve(&c, rows * widest_projection(plan), item);
    w->projection = w->projections[0];
    if (plan->makes_mask)
        w->mask = lf_carve(&c, B, T);
    if (plan->backend == LF_BLAS)
        w->blas = lf_carve(&c, blas_scratch(plan, (int64_t)rows), 1);
    w->x = carve_own(&c, extent, rows, sizeof *w->x);
    w->y = carve_own(&c, extent, rows, sizeof *w->y);
    w->rows = carve_own(&c, extent, rows, sizeof *w->rows);
    w->softmax = carve_own(&c, extent, widest_layer(plan), item);
    if (extent->pipelined)
        carve_pipeline(&c, plan, w, extent);
    return c.overflow ? SIZE_MAX : c.used;
}
