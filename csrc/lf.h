/* lf.h - public C API of the lstm_fast engine.
 *
 * A plan is built once from a chain of layers: weights are copied into panels, nothing of the caller's is kept. It is
 * immutable and may be run by many threads at once, each with a workspace of its own. A run allocates nothing.
 *
 * Canonical weights (row-major, all of the plan's dtype): gates are stacked i,f,g,o (LSTM) or z,r,n (GRU) on axis 0.
 */
#ifndef LF_H
#define LF_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    LF_OK,
    LF_NO_MEMORY,
    LF_BAD_MODEL,      /* layers that contradict one another */
    LF_UNKNOWN_ISA,    /* a name that no build of this library knows */
    LF_ISA_NOT_BUILT,  /* known, but left out of this build */
    LF_ISA_NOT_USABLE, /* built, but this CPU or operating system lacks it */
    LF_NO_BLAS,        /* the blas backend without a BLAS library */
    LF_INDEX_RANGE,    /* an id outside the embedding table; the call says where */
    LF_INTERRUPTED,    /* the caller's `interrupted` asked to stop */
    LF_STATUS_COUNT
} lf_status;

typedef enum { LF_F32, LF_F64, LF_DTYPE_COUNT } lf_dtype;
typedef enum { LF_PACKED, LF_BLAS } lf_backend;
typedef enum { LF_LSTM, LF_GRU, LF_RNN } lf_cell_kind;

/* In the order of activations.ACTIVATIONS. */
typedef enum {
    LF_LINEAR,
    LF_TANH,
    LF_SIGMOID,
    LF_RELU,
    LF_HARD_SIGMOID,
    LF_LEAKY_RELU,
    LF_RELU6,
    LF_ELU,
    LF_SELU,
    LF_GELU,
    LF_GELU_TANH,
    LF_SILU,
    LF_HARD_SILU,
    LF_MISH,
    LF_SOFTPLUS,
    LF_SOFTSIGN,
    LF_EXPONENTIAL,
    LF_AFFINE,
    LF_SCALED_TANH,
    LF_THRESHOLDED_RELU,
    LF_ACTIVATION_COUNT
} lf_activation_kind;

typedef struct {
    lf_activation_kind kind;
    double alpha, beta;
} lf_activation;

/* One direction of a recurrent layer. G gates, I inputs, H hidden units, P outputs (P = H unless projected). */
typedef struct {
    lf_cell_kind kind;
    int reset_after;       /* GRU */
    int64_t input_size;    /* I */
    int64_t hidden_size;   /* H */
    int64_t output_size;   /* P */
    const void *weight_ih; /* (G*H, I) */
    const void *weight_hh; /* (G*H, P) */
    const void *bias;      /* (G*H) or NULL */
    const void *bias_hn;   /* (H) or NULL; GRU with reset_after */
    const void *weight_hr; /* (P, H) or NULL; LSTM */
    lf_activation gate, candidate, output;
} lf_cell;

typedef enum {
    LF_EMBEDDING,
    LF_MASKING,
    LF_RECURRENT,
    LF_DENSE,
    LF_ELEMENTWISE,
    LF_SOFTMAX,
    LF_LOG_SOFTMAX
} lf_layer_kind;

typedef struct {
    lf_layer_kind kind;
    int64_t input_size, output_size; /* features per step; of an embedding, rows and columns of the table */
    const void *weight;              /* embedding: (rows, features); dense: (outputs, inputs) */
    const void *bias;                /* dense: (outputs) or NULL */
    lf_activation activation;        /* dense, elementwise */
    double mask_value;               /* masking */
    int mask_single;                 /* masking: features are rounded to float before they are compared */
    int mask_zero;                   /* embedding */
    int num_directions;              /* recurrent, 1 or 2 */
    lf_cell cells[2];
    int reverse; /* recurrent, one direction: from the last step to the first */
    int return_sequences;
    int repeat_masked; /* a masked step yields the previous output, not zeros */
} lf_layer;

typedef struct lf_plan lf_plan;

/* State of one cell, each (batch, size) contiguous; inputs may be NULL for zeros, outputs for "not wanted". */
typedef struct {
    const void *h_in, *c_in;
    void *h_out, *c_out;
} lf_state;

/* One call. Strides are in bytes; the features of a step are contiguous. x is int64 ids where the plan takes ids. */
typedef struct {
    int64_t batch, time;
    const void *x;
    int64_t x_batch_stride, x_time_stride;
    void *y;
    int64_t y_batch_stride, y_time_stride;
    const int64_t *lengths; /* (batch) valid steps of each row, or NULL */
    const lf_state *states; /* one per cell, in layer order, forward before backward */
    int turned; /* 1 if earlier calls with this workspace had an odd number of steps in all: their last weights, which a
                   cache may still have, are the first of this call then. No bit depends on it. */
    int (*interrupted)(void *context); /* polled between time blocks by the calling thread, or NULL */
    void *context;
    int64_t fault_row, fault_step; /* where, after LF_INDEX_RANGE */
} lf_call;

/* Builds a plan from n layers. `isa` is a name or NULL for the best this machine can run; `num_threads` is how many a
 * call may take, with the caller's own. */
lf_status lf_plan_new(const lf_layer *layers, int64_t n, lf_dtype dtype, lf_backend backend, const char *isa,
                      int num_threads, lf_plan **plan);
void lf_plan_free(lf_plan *plan);

const char *lf_plan_isa(const lf_plan *plan);

/* Bytes of workspace that any call of this shape needs, 64-byte aligned by the caller; SIZE_MAX when the sizes
 * overflow. */
size_t lf_workspace_size(const lf_plan *plan, int64_t batch, int64_t time);

lf_status lf_run(const lf_plan *plan, lf_call *call, void *workspace);

/* The elementwise kernels alone, for tests: y[i] = activation(y[i]). */
lf_status lf_activate(lf_dtype dtype, const char *isa, lf_activation activation, int64_t n, void *y);

/* Instruction sets by rank, slowest first; NULL past the end. */
const char *lf_isa_name(int index);
lf_status lf_isa_status(const char *isa);

/* Name of the BLAS in this build, or NULL. */
const char *lf_blas_name(void);

#endif
