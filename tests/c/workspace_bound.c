/* Whether lf_workspace_size is enough for every way in which a call may be divided, however long a meeting of its
 * threads is thought to take. Linked with --wrap=lf_team_answer and without kernels; prints how many divisions it was
 * not enough for, and how many it saw by units and with pipelines. */
#include "pipeline.h"

#include <stdio.h>

/* In the place of kernels, which plans ask for no more than this, and which take long to compile. */
const lf_kernels lf_kernels_generic_f32 = {.isa = "generic", .lanes = 16, .item_size = 4};
const lf_kernels lf_kernels_generic_f64 = {.isa = "generic", .lanes = 8, .item_size = 8};

static int64_t answer;

int64_t __wrap_lf_team_answer(void) { return answer; }

static float weights[4 * 96 * 96];
static const lf_activation SIGMOID = {LF_SIGMOID, 0, 0}, TANH = {LF_TANH, 0, 0};

static lf_layer recurrent(lf_cell_kind kind, int64_t inputs, int64_t hidden, int directions) {
    const lf_cell cell = {.kind = kind,
                          .reset_after = 1,
                          .input_size = inputs,
                          .hidden_size = hidden,
                          .output_size = hidden,
                          .weight_ih = weights,
                          .weight_hh = weights,
                          .gate = SIGMOID,
                          .candidate = TANH,
                          .output = TANH};
    return (lf_layer){.kind = LF_RECURRENT,
                      .input_size = inputs,
                      .output_size = hidden * directions,
                      .num_directions = directions,
                      .cells = {cell, cell},
                      .return_sequences = 1};
}

static lf_layer dense(int64_t inputs, int64_t outputs) {
    return (lf_layer){
        .kind = LF_DENSE, .input_size = inputs, .output_size = outputs, .weight = weights, .activation = TANH};
}

static const int64_t ANSWERS[] = {0, 1, 50, 100, 170, 300, 500, 740, 1500, 5000, 100000, INT64_MAX};

/* Divisions that the size does not cover; counts those by units, and those with pipelines. */
static int faults(const lf_plan *plan, int64_t batch, int64_t time, int seen[2]) {
    int found = 0;
    const size_t size = lf_workspace_size(plan, batch, time);
    for (size_t i = 0; i < sizeof ANSWERS / sizeof *ANSWERS; i++) {
        lf_split split;
        answer = ANSWERS[i];
        lf_split_call(plan, batch, time, &split);
        found += lf_slice_size(plan, &split) * (size_t)split.slices + sizeof(lf_work) > size;
        seen[0] += split.by_units;
        seen[1] += split.extent.pipelined;
    }
    return found;
}

int main(void) {
    const lf_layer networks[][4] = {
        {recurrent(LF_LSTM, 24, 96, 1)},
        {recurrent(LF_GRU, 24, 96, 2), recurrent(LF_LSTM, 192, 48, 1)},
        {recurrent(LF_LSTM, 32, 32, 1), recurrent(LF_LSTM, 32, 32, 1), dense(32, 8)},
        {recurrent(LF_RNN, 8, 96, 1), recurrent(LF_RNN, 96, 96, 1), recurrent(LF_LSTM, 96, 40, 1), dense(40, 40)},
        {dense(96, 64), recurrent(LF_LSTM, 64, 64, 1), recurrent(LF_GRU, 64, 64, 1), recurrent(LF_GRU, 64, 9, 2)},
    };
    const int64_t batches[] = {1, 2, 3, 7, 40, 600}, times[] = {0, 1, 13, 100, 1000};
    int found = 0, seen[2] = {0, 0};
    for (size_t n = 0; n < sizeof networks / sizeof *networks; n++)
        for (int threads = 1; threads <= 9; threads++) {
            int64_t layers = 0;
            while (layers < 4 && networks[n][layers].input_size)
                layers++;
            lf_plan *plan;
            if (lf_plan_new(networks[n], layers, LF_F32, LF_PACKED, NULL, threads, &plan) != LF_OK)
                return 2;
            for (size_t b = 0; b < sizeof batches / sizeof *batches; b++)
                for (size_t t = 0; t < sizeof times / sizeof *times; t++)
                    found += faults(plan, batches[b], times[t], seen);
            lf_plan_free(plan);
        }
    printf("%d %d %d\n", found, seen[0], seen[1]);
    return 0;
}
