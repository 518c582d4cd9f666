"""csrc/lf.h as Cython sees it."""

from libc.stdint cimport int64_t


cdef extern from "lf.h" nogil:
    ctypedef enum lf_status:
        LF_OK
        LF_NO_MEMORY
        LF_BAD_MODEL
        LF_UNKNOWN_ISA
        LF_ISA_NOT_BUILT
        LF_ISA_NOT_USABLE
        LF_NO_BLAS
        LF_INDEX_RANGE
        LF_INTERRUPTED
        LF_STATUS_COUNT

    ctypedef enum lf_dtype:
        LF_F32
        LF_F64

    ctypedef enum lf_backend:
        LF_PACKED
        LF_BLAS

    ctypedef enum lf_cell_kind:
        LF_LSTM
        LF_GRU
        LF_RNN

    ctypedef enum lf_activation_kind:
        LF_LINEAR
        LF_ACTIVATION_COUNT

    ctypedef struct lf_activation:
        lf_activation_kind kind
        double alpha
        double beta

    ctypedef struct lf_cell:
        lf_cell_kind kind
        int reset_after
        int64_t input_size
        int64_t hidden_size
        int64_t output_size
        const void *weight_ih
        const void *weight_hh
        const void *bias
        const void *bias_hn
        const void *weight_hr
        lf_activation gate
        lf_activation candidate
        lf_activation output

    ctypedef enum lf_layer_kind:
        LF_EMBEDDING
        LF_MASKING
        LF_RECURRENT
        LF_DENSE
        LF_ELEMENTWISE
        LF_SOFTMAX
        LF_LOG_SOFTMAX

    ctypedef struct lf_layer:
        lf_layer_kind kind
        int64_t input_size
        int64_t output_size
        const void *weight
        const void *bias
        lf_activation activation
        double mask_value
        int mask_single
        int mask_zero
        int num_directions
        lf_cell cells[2]
        int reverse
        int return_sequences
        int repeat_masked

    ctypedef struct lf_plan:
        pass

    ctypedef struct lf_state:
        const void *h_in
        const void *c_in
        void *h_out
        void *c_out

    ctypedef struct lf_call:
        int64_t batch
        int64_t time
        const void *x
        int64_t x_batch_stride
        int64_t x_time_stride
        void *y
        int64_t y_batch_stride
        int64_t y_time_stride
        const int64_t *lengths
        const lf_state *states
        int turned
        int (*interrupted)(void *context) noexcept
        void *context
        int64_t fault_row
        int64_t fault_step

    lf_status lf_plan_new(const lf_layer *layers, int64_t n, lf_dtype dtype, lf_backend backend, const char *isa,
                          int num_threads, lf_plan **plan)
    void lf_plan_free(lf_plan *plan)
    const char *lf_plan_isa(const lf_plan *plan)
    size_t lf_workspace_size(const lf_plan *plan, int64_t batch, int64_t time)
    lf_status lf_run(const lf_plan *plan, lf_call *call, void *workspace)
    lf_status lf_activate(lf_dtype dtype, const char *isa, lf_activation activation, int64_t n, void *y)
    const char *lf_isa_name(int index)
    lf_status lf_isa_status(const char *isa)
    const char *lf_blas_name()


cdef extern from "lf_memory.h" nogil:
    void *lf_alloc(size_t size)
    size_t lf_alloc_size(size_t size)
    void lf_free(void *pointer)
