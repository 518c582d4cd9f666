/* blas.c - the blas backend: gate GEMMs by CBLAS, then the same kernels for the elementwise update alone.
 *
 * Weights are plain matrices (G*N*L, K), a row of pre-activations is [gate][unit]. A step adds h * Wh^T in place to the
 * rows that hold x * Wx^T + bias, and hands them to the kernel without x and h. */
#define _GNU_SOURCE /* setenv, strdup */
#include "lf_impl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#ifdef LF_HAVE_BLAS

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

typedef void (*sgemm_fn)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c, int ldc);
typedef void (*dgemm_fn)(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a,
                         int lda, const double *b, int ldb, double beta, double *c, int ldc);

static sgemm_fn sgemm;
static dgemm_fn dgemm;

const char *lf_blas_name(void) { return LF_BLAS_NAME; }

/* OpenBLAS starts a thread for every CPU when it is loaded, unless the environment says otherwise at that moment. So it
 * is loaded by the first plan that wants it, told to stay with the caller's thread, and the environment put back. */
static void open_library(void) {
    static const char variable[] = "OPENBLAS_NUM_THREADS";
    const char *value = getenv(variable);
    char *saved = value ? strdup(value) : NULL;
    if (value && !saved)
        return;
    setenv(variable, "1", 1); /* a thread in C that reads the environment meanwhile races with this, once a process */
    void *library = dlopen(LF_BLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL); /* by the rpath of this object, $ORIGIN/_libs */
    if (saved)
        setenv(variable, saved, 1);
    else
        unsetenv(variable);
    free(saved);
    if (library) {
        sgemm = (sgemm_fn)dlsym(library, LF_CBLAS_PREFIX "cblas_sgemm");
        dgemm = (dgemm_fn)dlsym(library, LF_CBLAS_PREFIX "cblas_dgemm");
    }
}

lf_status lf_blas_open(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_library);
    return sgemm && dgemm ? LF_OK : LF_NO_BLAS;
}

/* c (rows, n) += a (rows, k) * b (n, k)^T; leading dimensions in elements */
static void gemm(lf_dtype dtype, int64_t rows, int64_t n, int64_t k, const void *a, int64_t lda, const void *b, void *c,
                 int64_t ldc) {
    if (rows == 0 || n == 0 || k == 0)
        return;
    if (dtype == LF_F64)
        dgemm(ROW_MAJOR, NO_TRANS, TRANS, (int)rows, (int)n, (int)k, 1, a, (int)lda, b, (int)k, 1, c, (int)ldc);
    else
        sgemm(ROW_MAJOR, NO_TRANS, TRANS, (int)rows, (int)n, (int)k, 1, a, (int)lda, b, (int)k, 1, c, (int)ldc);
}

#else

const char *lf_blas_name(void) { return NULL; }

lf_status lf_blas_open(void) { return LF_NO_BLAS; }

/* Never reached: a build without BLAS refuses to plan for it. */
static void gemm(lf_dtype dtype, int64_t rows, int64_t n, int64_t k, const void *a, int64_t lda, const void *b, void *c,
                 int64_t ldc) {
    (void)dtype, (void)rows, (void)n, (void)k, (void)a, (void)lda, (void)b, (void)c, (void)ldc;
}

#endif

/* rows of x gathered (rows, I); pre-activations of rows that bring none (rows, G*N*L); the recurrent candidate
 * (rows, N*L) */
size_t lf_blas_scratch(const lf_part *part, int64_t rows, int64_t item_size) {
    return (size_t)(rows * (part->inputs + part->columns + part->padded) * item_size);
}

static void fill_rows(void *to, int64_t stride, const void *row, size_t size, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)to + i * stride, row, size);
}

static const void *gather(const void *const *x, int64_t n, size_t size, void *scratch) {
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)scratch + (size_t)i * size, x[i], size);
    return scratch;
}

static int64_t number_of_rows(const lf_step *s) {
    /* With a list of rows every row up to the last is multiplied; whoever reads the products takes those listed. */
    return s->rows ? s->rows[s->n - 1] + 1 : s->n;
}

void lf_blas_step(lf_dtype dtype, lf_step_fn kernel, const lf_step *step) {
    lf_step s = *step;
    const lf_part *part = s.part;
    const int64_t item = dtype == LF_F64 ? 8 : 4;
    const int64_t rows = number_of_rows(&s), columns = part->columns;
    const size_t row_size = (size_t)(columns * item);
    char *scratch = s.scratch;
    char *pre = scratch + (size_t)rows * (size_t)(part->inputs * item);
    char *hn = pre + (size_t)rows * row_size;

    int64_t stride = columns * item;
    if (s.out) {
        pre = s.out;
        stride = s.out_stride;
    } else if (s.init_stride) {
        pre = (char *)(uintptr_t)s.init;
        stride = s.init_stride;
    }
    if (s.out || !s.init_stride)
        fill_rows(pre, stride, s.init, row_size, rows);
    if (s.x) {
        const void *x = gather(s.x, rows, (size_t)(part->inputs * item), scratch);
        gemm(dtype, rows, columns, part->inputs, x, part->inputs, part->w_x, pre, stride / item);
    }
    if (s.out)
        return;
    if (s.h) {
        const int64_t candidate = s.init_hn ? part->padded : 0; /* columns that go to hn instead */
        const int64_t direct = columns - candidate;
        gemm(dtype, rows, direct, part->recurrent, s.h, s.h_stride / item, part->w_h, pre, stride / item);
        if (candidate) {
            fill_rows(hn, candidate * item, s.init_hn, (size_t)(candidate * item), rows);
            gemm(dtype, rows, candidate, part->recurrent, s.h, s.h_stride / item,
                 (const char *)part->w_h + direct * part->recurrent * item, hn, candidate);
            s.init_hn = hn;
            s.init_hn_stride = candidate * item;
        }
    }
    s.init = pre;
    s.init_stride = stride;
    s.x = NULL;
    s.h = NULL;
    kernel(&s);
}
