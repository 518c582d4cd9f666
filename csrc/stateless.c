/* stateless.c - layers without memory: embedding, masking, dense, activations, softmax. */
#include "layers.h"

#include <math.h>
#include <string.h>

static char *at(lf_view view, int64_t row, int64_t t) {
    return view.data + row * view.batch_stride + t * view.time_stride;
}

static void run_embedding(const lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t begin, int64_t steps) {
    const size_t size = (size_t)(node->output_size * s->plan->kernels->item_size);
    int64_t t, end;
    for (lf_share(s, steps, &t, &end); t < end; t++)
        for (int64_t row = 0; row < s->rows; row++) {
            int64_t id;
            memcpy(&id, at(x, row, t), sizeof id);
            if (id < 0 || id >= node->input_size) /* checked before the run: somebody writes into x meanwhile */
                id = 0;
            memcpy(at(y, row, t), (const char *)node->table + (size_t)id * size, size);
            if (node->mask_zero)
                s->w.mask[(begin + t) * s->rows + row] &= id != 0;
        }
}

/* x != value by their bits, for arithmetic takes denormals as zeros here. Both zeros are equal. */
static int differs_f32(float x, float value) {
    uint32_t a, b;
    memcpy(&a, &x, sizeof a);
    memcpy(&b, &value, sizeof b);
    return a != b && (a | b) << 1;
}

static int differs_f64(double x, double value) {
    uint64_t a, b;
    memcpy(&a, &x, sizeof a);
    memcpy(&b, &value, sizeof b);
    return a != b && (a | b) << 1;
}

/* As if x were rounded to float. Up to 2^-150 that is zero, and not only where denormals are taken as zeros. */
static int differs_rounded(double x, double value) {
    return value == 0 ? !(fabs(x) <= 0x1p-150) : differs_f32((float)x, (float)value);
}

static int differs_anywhere(lf_dtype dtype, const lf_node *node, const void *x) {
    const double value = node->mask_value;
    for (int64_t i = 0; i < node->output_size; i++)
        if (dtype == LF_F32     ? differs_f32(((const float *)x)[i], (float)value)
            : node->mask_single ? differs_rounded(((const double *)x)[i], value)
                                : differs_f64(((const double *)x)[i], value))
            return 1;
    return 0;
}

static void run_masking(const lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t begin, int64_t steps) {
    const size_t size = (size_t)(node->output_size * s->plan->kernels->item_size);
    int64_t t, end;
    for (lf_share(s, steps, &t, &end); t < end; t++)
        for (int64_t row = 0; row < s->rows; row++) {
            if (differs_anywhere(s->plan->dtype, node, at(x, row, t))) {
                memcpy(at(y, row, t), at(x, row, t), size);
            } else {
                memset(at(y, row, t), 0, size);
                s->w.mask[(begin + t) * s->rows + row] = 0;
            }
        }
}

static void run_dense(const lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t steps) {
    for (int64_t t = 0; t < steps; t++)
        for (int64_t row = 0; row < s->rows; row++) {
            s->w.x[t * s->rows + row] = at(x, row, t);
            s->w.y[t * s->rows + row] = at(y, row, t);
        }
    lf_step step = lf_own_step(s, &node->part);
    step.n = s->rows * steps;
    step.x = s->w.x;
    step.y = s->w.y;
    step.candidate = node->activation;
    lf_run_step(s->plan, s->plan->kernels->rnn, &step);
}

static void run_in_place(const lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t steps) {
    const lf_kernels *kernels = s->plan->kernels;
    const size_t size = (size_t)(node->output_size * kernels->item_size);
    int64_t t, end;
    for (lf_share(s, steps, &t, &end); t < end; t++)
        for (int64_t row = 0; row < s->rows; row++) {
            char *value = at(y, row, t);
            memcpy(value, at(x, row, t), size);
            if (node->kind == LF_ELEMENTWISE)
                kernels->activate(node->activation, node->output_size, value);
            else
                kernels->softmax(node->output_size, node->kind == LF_LOG_SOFTMAX, value, s->w.softmax);
        }
}

void lf_run_stateless(lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t begin, int64_t steps) {
    if (node->kind == LF_EMBEDDING)
        run_embedding(s, node, x, y, begin, steps);
    else if (node->kind == LF_MASKING)
        run_masking(s, node, x, y, begin, steps);
    else if (node->kind == LF_DENSE)
        run_dense(s, node, x, y, steps);
    else
        run_in_place(s, node, x, y, steps);
    lf_sync(s);
}
