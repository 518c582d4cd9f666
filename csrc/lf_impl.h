/* lf_impl.h - the contract inside the engine: panels, one step's arguments, the kernel table.
 *
 * Letters: B batch rows, T time steps, I inputs, H hidden units, P outputs of a cell (recurrent inputs),
 *          G gates of a part, N panels, L lanes of a vector, K terms of a sum.
 *
 * A part is one GEMM of a cell: pre-activations of G gates from [x, h]. Its weights lie in panels of L units:
 *
 *     w_x[panel N][k: x_0 .. x_{I-1}][gate G][lane L]      w_h[panel N][k: h_0 .. h_{K-1}][gate G][lane L]
 *
 * so that for one k the G vectors of a panel are one contiguous run, and the accumulators of a panel hold all gates of
 * L units when the sum ends: the cell update happens in registers. Units beyond the last are zero columns. All of w_h
 * is one run, for it is read at every step: cut up by w_x, it would fall on half of a cache's sets.
 *
 * Where the units of the last panel fill no more than half or a quarter of a vector, that panel is folded: F = 2 or 4
 * gates share a vector, L/F lanes each, and ceil(G/F) vectors are the run of one k. The four gates of 50 units are 13
 * vectors of 16 lanes, then, and not 16.
 *
 * The same bits everywhere: every pre-activation is one chain of fused multiply-adds that starts at the bias and runs
 * over x_0 .. x_{I-1}, then h_0 .. h_{K-1}. Storing the chain after x and loading it later (the hoisted projection)
 * does not round, so hoisting, tiling, batching, threads and vector width cannot change a bit.
 */
#ifndef LF_IMPL_H
#define LF_IMPL_H

#include "lf.h"
#include "lf_memory.h"

typedef struct {
    int64_t inputs;                    /* I; 0 where the part takes no x */
    int64_t recurrent;                 /* K of the h part; 0 for a dense layer */
    int64_t units;                     /* outputs per gate */
    int64_t panels;                    /* N = ceil(units / L) */
    int64_t padded;                    /* N*L */
    int64_t columns;                   /* a row of pre-activations: G*N*L, less where the last panel is folded */
    int gates;                         /* G */
    int fold;                          /* packed: F of the last panel, 1 where it is like the others; blas: 1 */
    void *w_x, *w_h;                   /* packed: as pictured; blas: (G*N*L, I) and (G*N*L, K), row-major */
    int64_t copies, copy_bytes;        /* of w_h, one behind the other; lf_copies_in_turn() */
    int finite;                        /* w_h holds neither infinities nor NaN */
    void *bias;                        /* in the layout of a row of pre-activations, zeros where absent */
    void *bias_hn;                     /* [panel][lane], GRU with reset_after only */
    int64_t gate_stride, panel_stride; /* elements, inside a row of pre-activations; of vectors, where folded */
} lf_part;

/* Of one k in a panel where `fold` gates share a vector. */
static inline int lf_vectors(int gates, int fold) { return (gates + fold - 1) / fold; }

/* One step over n rows of a part, or a projection of n rows of x when `out` is set. Strides are in bytes. */
typedef struct {
    const lf_part *part;
    int64_t n;
    const int32_t *rows;  /* which rows, or NULL for 0 .. n-1; indexes all below */
    const void *const *x; /* rows of x, or NULL where the sum starts behind x */
    const void *h;        /* recurrent inputs, or NULL */
    const void *w_h;      /* packed: the copy of the part's to read */
    int64_t h_stride;
    const void *init;    /* rows of pre-activations the chains start from */
    int64_t init_stride; /* 0: the bias, for every row */
    const void *init_hn; /* GRU with reset_after: where the chain of the recurrent candidate starts */
    int64_t init_hn_stride;
    void *out; /* projection: rows of pre-activations, and nothing else is computed */
    int64_t out_stride;
    const void *h_prev; /* GRU: state before the step */
    int64_t h_prev_stride;
    void *c; /* LSTM: cell state, in place. GRU without reset_after: z */
    int64_t c_stride;
    void *h_next; /* output into the next step's buffer, whole vectors; or NULL */
    int64_t h_next_stride;
    void *const *y; /* output rows of exactly `units` elements, or NULL */
    lf_activation gate, candidate, output;
    void *scratch;                   /* blas: lf_blas_scratch() bytes */
    int64_t first_panel, last_panel; /* packed: panels [first, last) of the part */
    int descending;                  /* packed: from the last panel to the first */
    int64_t cached_bytes;            /* lf_cached_bytes() */
} lf_step;

typedef void (*lf_step_fn)(const lf_step *step);

typedef struct {
    const char *isa;
    int lanes;
    int64_t item_size; /* bytes of a number */
    lf_step_fn lstm, gru, gru_gates, gru_candidate, rnn;
    void (*softmax)(int64_t n, int log, void *x, void *scratch);    /* in place; scratch of n */
    void (*activate)(lf_activation activation, int64_t n, void *x); /* in place */
} lf_kernels;

extern const lf_kernels lf_kernels_generic_f32, lf_kernels_generic_f64;
extern const lf_kernels lf_kernels_avx2_f32, lf_kernels_avx2_f64;
extern const lf_kernels lf_kernels_avx512_f32, lf_kernels_avx512_f64;

/* dispatch.c: the table of `isa`, or of the best usable one for NULL. */
lf_status lf_dispatch(const char *isa, lf_dtype dtype, const lf_kernels **kernels);

/* dispatch.c: how many bytes of weights stay in the second-level cache from step to step. No bit depends on it. */
int64_t lf_cached_bytes(void);

/* dispatch.c: how many bytes of weights a row should read before it reads the first of them again, or 0 where this does
 * not matter. No bit depends on it. */
int64_t lf_least_sweep(void);

/* activations.c: any activation, one number at a time. */
double lf_activation_value(lf_activation activation, double x);

typedef struct {
    lf_cell_kind kind;
    int64_t input_size, hidden_size, output_size;
    int num_parts; /* gates; gates and candidate (GRU without reset_after); gates and projection (LSTM) */
    lf_part parts[2];
    lf_activation gate, candidate, output;
    int64_t hoisted; /* elements in a row of pre-activations of all parts that take x */
    int split_reset; /* GRU without reset_after */
    int projected;
    int may_start_free; /* a step from a state of zeros may leave the product of the gates with it out */
} lf_cell_plan;

typedef struct {
    lf_layer_kind kind;
    int64_t input_size, output_size;
    lf_part part; /* dense */
    void *table;  /* embedding */
    lf_activation activation;
    double mask_value;
    int mask_single, mask_zero;
    int num_directions, reverse, return_sequences, repeat_masked;
    int64_t first_cell; /* index of cells[0] among all cells of the plan: its place in lf_call.states */
    lf_cell_plan cells[2];
    int64_t input_work, recurrent_work; /* multiply-adds of a step of one row: with x, with h */
} lf_node;

/* Whether a node needs the end of a sequence before its beginning is done. */
static inline int lf_looks_back(const lf_node *node) { return node->reverse || node->num_directions == 2; }

/* Nodes first .. last run block by block in time; a node that looks backwards in time has a stage of its own. */
typedef struct {
    int64_t first, last;
    int collapsed; /* runs on a single step: an earlier stage returned only its last output */
} lf_stage;

struct lf_plan {
    lf_dtype dtype;
    lf_backend backend;
    const lf_kernels *kernels;
    int num_threads;      /* of a call, at most */
    int64_t cached_bytes; /* lf_cached_bytes() */
    int64_t least_sweep;  /* lf_least_sweep() */
    int64_t num_nodes, num_stages, num_cells;
    int64_t rows_at_once; /* of a batch: bounds the memory of a call, and the time between two polls */
    int64_t rows_a_block; /* steps of rows at most, for the same reason */
    int makes_mask, two_directions;
    lf_node *nodes;
    lf_stage *stages;
    void
        *weights; /* of all nodes: one block, for one huge page holds what many small ones would scatter over a cache */
};

/* pack.c: completes a part whose gates, units, inputs and recurrent inputs are set, in zeroed memory. Gate g of unit u
 * is row gate_rows[g] * units + u of the canonical weights and bias; any source may be NULL, for zeros. */
typedef struct {
    const void *weight_x, *weight_h, *bias, *bias_hn;
    int gate_rows[4];
} lf_part_source;
void lf_pack(const lf_plan *plan, lf_carver *memory, lf_part *part, const lf_part_source *source);

/* pack.c: how many copies of its recurrent weights so many members read in turn, step by step, each its share. */
int64_t lf_copies_in_turn(const lf_plan *plan, const lf_part *part, int members);

/* blas.c: loads the library; LF_NO_BLAS where there is none. */
lf_status lf_blas_open(void);

/* blas.c: gate GEMMs of one step by BLAS, then `kernel` for the elementwise update alone. */
void lf_blas_step(lf_dtype dtype, lf_step_fn kernel, const lf_step *step);
size_t lf_blas_scratch(const lf_part *part, int64_t rows, int64_t item_size);

#endif
