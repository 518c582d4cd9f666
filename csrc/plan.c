/* plan.c - from a list of layers to an immutable plan: checked sizes, packed weights, stages. */
#include "lf_impl.h"

#include <limits.h>
#include <string.h>

/* A batch runs this many rows at a time: enough for full tiles and for weights to be read seldom; fewer where a step of
 * them all would take more multiply-adds than a slow CPU does in some 50 ms. */
enum { MOST_ROWS = 256, LEAST_ROWS = 12, STEP_WORK = 1 << 30 };

/* Multiply-adds of a block of steps, between two polls: one row, whose weights come from memory, makes some 10^10 a
 * second. */
static const int64_t BLOCK_WORK = (int64_t)1 << 32;

/* BLAS counts in int; the product of gates, padding and 64-bit sizes stays far below 2^63 under the same bound. */
static int is_size(int64_t n) { return n > 0 && n <= INT_MAX / 8; }

static int is_activation(lf_activation a) { return (unsigned)a.kind < LF_ACTIVATION_COUNT; }

static void set_part(lf_part *part, int gates, int64_t units, int64_t inputs, int64_t recurrent) {
    part->gates = gates;
    part->units = units;
    part->inputs = inputs;
    part->recurrent = recurrent;
}

static int cell_is_sound(const lf_cell *c) {
    const int projected = c->weight_hr != NULL;
    return (unsigned)c->kind <= LF_RNN && is_size(c->input_size) && is_size(c->hidden_size) &&
           is_size(c->output_size) && c->weight_ih && c->weight_hh && (c->kind == LF_LSTM || !projected) &&
           (projected || c->output_size == c->hidden_size) && is_activation(c->gate) && is_activation(c->candidate) &&
           is_activation(c->output);
}

static void plan_parts(const lf_plan *plan, lf_carver *memory, lf_cell_plan *to, const lf_cell *from) {
    const int64_t I = from->input_size, H = from->hidden_size, P = from->output_size;
    const lf_part_source all = {from->weight_ih, from->weight_hh, from->bias, from->bias_hn, {0, 1, 2, 3}};
    const lf_part_source candidate = {from->weight_ih, from->weight_hh, from->bias, NULL, {2}};
    const lf_part_source projection = {NULL, from->weight_hr, NULL, NULL, {0}};
    const int gates = to->split_reset ? 2 : from->kind == LF_LSTM ? 4 : from->kind == LF_GRU ? 3 : 1;

    set_part(&to->parts[0], gates, H, I, P);
    lf_pack(plan, memory, &to->parts[0], &all);
    to->hoisted = to->parts[0].columns;
    if (to->split_reset) {
        set_part(&to->parts[1], 1, H, I, H);
        lf_pack(plan, memory, &to->parts[1], &candidate);
        to->hoisted += to->parts[1].columns;
    }
    if (to->projected) {
        set_part(&to->parts[1], 1, P, 0, H);
        lf_pack(plan, memory, &to->parts[1], &projection);
    }
}

/* Where h is zero its product adds zeros to the chains, unless a weight is infinite or NaN: no pre-activation changes
 * in more than the sign of a zero. That sign goes no further where c and h are +0 and the gates, as sigmoids, never
 * negative: f*c and z*h are +0 then, and stay so whatever zero is added. A simple RNN would hand it on. The candidate
 * of a GRU that resets first multiplies not h but r*h, which is NaN where r is. */
static int may_start_free(const lf_cell_plan *cell) {
    return cell->kind != LF_RNN && cell->gate.kind == LF_SIGMOID && cell->parts[0].finite;
}

static lf_status plan_cell(const lf_plan *plan, lf_carver *memory, lf_cell_plan *to, const lf_cell *from) {
    if (!cell_is_sound(from))
        return LF_BAD_MODEL;
    to->kind = from->kind;
    to->input_size = from->input_size;
    to->hidden_size = from->hidden_size;
    to->output_size = from->output_size;
    to->gate = from->gate;
    to->candidate = from->candidate;
    /* Cells without an output activation count as standard, so that the kernels' fast path is theirs too. */
    to->output = from->kind == LF_LSTM ? from->output : (lf_activation){LF_TANH, 0, 0};
    to->split_reset = from->kind == LF_GRU && !from->reset_after;
    to->projected = from->weight_hr != NULL;
    to->num_parts = 1 + (to->split_reset || to->projected);
    plan_parts(plan, memory, to, from);
    to->may_start_free = may_start_free(to);
    return LF_OK;
}

static lf_status plan_recurrent(lf_plan *plan, lf_carver *memory, lf_node *to, const lf_layer *from) {
    if (from->num_directions < 1 || from->num_directions > 2 || (from->reverse && from->num_directions == 2))
        return LF_BAD_MODEL;
    to->num_directions = from->num_directions;
    to->reverse = from->reverse;
    to->return_sequences = from->return_sequences;
    to->repeat_masked = from->repeat_masked;
    to->first_cell = plan->num_cells;
    plan->num_cells += from->num_directions;
    int64_t outputs = 0;
    for (int d = 0; d < from->num_directions; d++) {
        const lf_status status = plan_cell(plan, memory, &to->cells[d], &from->cells[d]);
        if (status != LF_OK)
            return status;
        if (from->cells[d].input_size != from->input_size)
            return LF_BAD_MODEL;
        outputs += from->cells[d].output_size;
    }
    return outputs == from->output_size ? LF_OK : LF_BAD_MODEL;
}

static lf_status plan_dense(const lf_plan *plan, lf_carver *memory, lf_node *to, const lf_layer *from) {
    if (!from->weight || !is_activation(from->activation))
        return LF_BAD_MODEL;
    set_part(&to->part, 1, from->output_size, from->input_size, 0);
    const lf_part_source source = {from->weight, NULL, from->bias, NULL, {0}};
    lf_pack(plan, memory, &to->part, &source);
    return LF_OK;
}

static lf_status plan_embedding(lf_plan *plan, lf_carver *memory, lf_node *to, const lf_layer *from) {
    if (!from->weight)
        return LF_BAD_MODEL;
    const size_t count = (size_t)(from->input_size * from->output_size), item = (size_t)plan->kernels->item_size;
    to->mask_zero = from->mask_zero;
    plan->makes_mask |= from->mask_zero;
    to->table = lf_carve(memory, count, item);
    if (memory->base)
        memcpy(to->table, from->weight, count * item);
    return LF_OK;
}

static lf_status plan_node(lf_plan *plan, lf_carver *memory, lf_node *to, const lf_layer *from) {
    if (!is_size(from->input_size) || !is_size(from->output_size))
        return LF_BAD_MODEL;
    to->kind = from->kind;
    to->input_size = from->input_size;
    to->output_size = from->output_size;
    to->activation = from->activation;
    switch (from->kind) {
    case LF_EMBEDDING:
        return plan_embedding(plan, memory, to, from);
    case LF_MASKING:
        to->mask_value = from->mask_value;
        to->mask_single = from->mask_single;
        plan->makes_mask = 1;
        return from->input_size == from->output_size ? LF_OK : LF_BAD_MODEL;
    case LF_RECURRENT:
        return plan_recurrent(plan, memory, to, from);
    case LF_DENSE:
        return plan_dense(plan, memory, to, from);
    case LF_ELEMENTWISE:
        if (!is_activation(from->activation))
            return LF_BAD_MODEL;
        return from->input_size == from->output_size ? LF_OK : LF_BAD_MODEL;
    case LF_SOFTMAX:
    case LF_LOG_SOFTMAX:
        return from->input_size == from->output_size ? LF_OK : LF_BAD_MODEL;
    }
    return LF_BAD_MODEL;
}

static int collapses(const lf_node *node) { return node->kind == LF_RECURRENT && !node->return_sequences; }

static void plan_stages(lf_plan *plan) {
    int collapsed = 0;
    for (int64_t i = 0; i < plan->num_nodes; i++) {
        const lf_node *node = &plan->nodes[i];
        const int opens = i == 0 || lf_looks_back(node) || lf_looks_back(node - 1) || collapses(node - 1);
        if (opens)
            plan->stages[plan->num_stages++] = (lf_stage){i, i, collapsed};
        plan->stages[plan->num_stages - 1].last = i;
        plan->two_directions |= node->num_directions == 2;
        collapsed |= collapses(node);
    }
}

/* Sizes follow one another, ids come first, and nothing recurrent follows a single last output. */
static int chain_is_sound(const lf_layer *layers, int64_t n) {
    int collapsed = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i && (layers[i].kind == LF_EMBEDDING || layers[i].input_size != layers[i - 1].output_size))
            return 0;
        if (collapsed && (layers[i].kind == LF_RECURRENT || layers[i].kind == LF_MASKING))
            return 0;
        collapsed |= layers[i].kind == LF_RECURRENT && !layers[i].return_sequences;
    }
    return n > 0;
}

static void add_work(lf_node *node, const lf_part *part) {
    node->input_work += part->columns * part->inputs;
    node->recurrent_work += part->columns * part->recurrent;
}

static void count_work(lf_plan *plan) {
    int64_t most = 1;
    for (int64_t i = 0; i < plan->num_nodes; i++) {
        lf_node *node = &plan->nodes[i];
        add_work(node, &node->part);
        for (int d = 0; d < node->num_directions; d++)
            for (int p = 0; p < node->cells[d].num_parts; p++)
                add_work(node, &node->cells[d].parts[p]);
        const int64_t work = (node->input_work + node->recurrent_work) / (node->num_directions == 2 ? 2 : 1);
        most = work > most ? work : most;
    }
    plan->rows_a_block = BLOCK_WORK / most;
    const int64_t rows = STEP_WORK / most;
    plan->rows_at_once = rows > MOST_ROWS ? MOST_ROWS : rows < LEAST_ROWS ? LEAST_ROWS : rows;
}

static lf_status plan_nodes(lf_plan *plan, lf_carver *memory, const lf_layer *layers) {
    plan->num_cells = 0;
    for (int64_t i = 0; i < plan->num_nodes; i++) {
        const lf_status status = plan_node(plan, memory, &plan->nodes[i], &layers[i]);
        if (status != LF_OK)
            return status;
    }
    return LF_OK;
}

/* Twice over the nodes: to learn how much memory their weights take, and to fill it. */
static lf_status fill_plan(lf_plan *plan, const lf_layer *layers) {
    plan->nodes = lf_alloc_zeroed((size_t)plan->num_nodes * sizeof *plan->nodes);
    plan->stages = lf_alloc_zeroed((size_t)plan->num_nodes * sizeof *plan->stages);
    if (!plan->nodes || !plan->stages)
        return LF_NO_MEMORY;
    lf_carver memory = {NULL, 0, 0};
    const lf_status status = plan_nodes(plan, &memory, layers);
    if (status != LF_OK)
        return status;
    plan->weights = memory.overflow ? NULL : lf_alloc_zeroed(memory.used);
    if (!plan->weights)
        return LF_NO_MEMORY;
    memory = (lf_carver){plan->weights, 0, 0};
    plan_nodes(plan, &memory, layers);
    plan_stages(plan);
    count_work(plan);
    return LF_OK;
}

lf_status lf_plan_new(const lf_layer *layers, int64_t n, lf_dtype dtype, lf_backend backend, const char *isa,
                      int num_threads, lf_plan **result) {
    const lf_kernels *kernels;
    const lf_status usable = lf_dispatch(isa, dtype, &kernels);
    if (usable != LF_OK)
        return usable;
    if (backend == LF_BLAS && lf_blas_open() != LF_OK)
        return LF_NO_BLAS;
    if (!chain_is_sound(layers, n))
        return LF_BAD_MODEL;
    lf_plan *plan = lf_alloc_zeroed(sizeof *plan);
    if (!plan)
        return LF_NO_MEMORY;
    plan->dtype = dtype;
    plan->backend = backend;
    plan->kernels = kernels;
    plan->num_threads = num_threads;
    plan->cached_bytes = lf_cached_bytes();
    plan->least_sweep = lf_least_sweep();
    plan->num_nodes = n;
    const lf_status status = fill_plan(plan, layers);
    if (status == LF_OK)
        *result = plan;
    else
        lf_plan_free(plan);
    return status;
}

void lf_plan_free(lf_plan *plan) {
    if (!plan)
        return;
    lf_free(plan->weights);
    lf_free(plan->nodes);
    lf_free(plan->stages);
    lf_free(plan);
}

const char *lf_plan_isa(const lf_plan *plan) { return plan->kernels->isa; }
