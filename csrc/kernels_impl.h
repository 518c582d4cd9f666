/* kernels_impl.h - the algorithm text, once: included by kernels_<isa>.c and kernels_<isa>_f64.c after a vec_<isa>.h.
 *
 * A tile is MR rows x NP panels. Its accumulators start from a row of pre-activations (or the bias), take one fused
 * multiply-add per term in increasing k, and end in the cell update, all in registers. MR, NP and the update are
 * compile-time constants of each instance; which tiles cover a problem depends on its shape alone and changes no bit.
 */
#include "lf_impl.h"
#include "vmath_impl.h"

#include "elementwise_impl.h"

_Static_assert(MR_MAX >= 3 && MR_MAX <= 6, "tile_of_rows has cases for these heights");
_Static_assert(ACCUMULATORS >= 4 * MR_MAX && ACCUMULATORS >= 8, "a tile's sums must fit");

#define CONSTANT_INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 24")
#define ONE_BY_ONE _Pragma("GCC unroll 1")

typedef enum { LSTM, GRU, GRU_GATES, GRU_CANDIDATE, RNN } update;

CONSTANT_INLINE int gates_of(update u) { return u == LSTM ? 4 : u == GRU ? 3 : u == GRU_GATES ? 2 : 1; }

/* A GRU with reset_after sums the candidate's x and h parts apart: the reset gate multiplies only the latter. */
CONSTANT_INLINE int sums_of(update u) { return u == GRU ? 4 : gates_of(u); }

CONSTANT_INLINE int vectors_of(update u, int F) { return lf_vectors(gates_of(u), F); }

/* A row of x may begin at any byte. */
static inline real number_at(const void *p) {
    real number;
    memcpy(&number, p, sizeof number);
    return number;
}

static inline real *at(const void *base, int64_t stride, int64_t row) { return (real *)((char *)base + row * stride); }

static inline vec at_panel(const void *base, int64_t stride, int64_t row, int64_t panel) {
    return v_load(at(base, stride, row) + panel * LANES);
}

static inline void store_output(const lf_step *s, int64_t row, int64_t panel, vec h) {
    if (s->h_next)
        v_store(at(s->h_next, s->h_next_stride, row) + panel * LANES, h);
    if (s->y) {
        real *y = (real *)s->y[row] + panel * LANES;
        const int64_t valid = s->part->units - panel * LANES;
        if (valid >= LANES)
            v_store(y, h);
        else
            v_store_n(y, h, (int)valid);
    }
}

/* Whether the activations of an update are the two that nearly every network uses. Those are inline, the others called:
 * so it is asked once for all rows of a tile, and where the answer is yes, constants stay in registers. */
CONSTANT_INLINE int is_usual(const lf_step *s, const update u) {
    return (u == GRU_CANDIDATE || u == RNN || s->gate.kind == LF_SIGMOID) &&
           (u == GRU_GATES || s->candidate.kind == LF_TANH) && (u != LSTM || s->output.kind == LF_TANH);
}

CONSTANT_INLINE vec gate(const lf_step *s, vec x, const int USUAL) {
    return USUAL ? v_sigmoid(x) : v_activate(s->gate, x);
}

CONSTANT_INLINE vec candidate(const lf_step *s, vec x, const int USUAL) {
    return USUAL ? v_tanh(x) : v_activate(s->candidate, x);
}

/* The cell state also takes the place of the candidate's sum. */
CONSTANT_INLINE void update_lstm_cell(const lf_step *s, int64_t row, int64_t panel, vec *z, const int USUAL) {
    real *c = at(s->c, s->c_stride, row) + panel * LANES;
    const vec input = v_mul(gate(s, z[0], USUAL), candidate(s, z[2], USUAL));
    z[2] = v_fma(gate(s, z[1], USUAL), v_load(c), input);
    v_store(c, z[2]);
}

CONSTANT_INLINE void update_lstm(const lf_step *s, int64_t row, int64_t panel, const vec *z, const int USUAL) {
    const vec output = USUAL ? v_tanh(z[2]) : v_activate(s->output, z[2]);
    store_output(s, row, panel, v_mul(gate(s, z[3], USUAL), output));
}

/* z*h + (1-z)*n; 1-z is exact for z >= 1/2 */
CONSTANT_INLINE vec blend(vec z, vec h, vec n) { return v_fma(z, h, v_mul(v_sub(v_set1(1), z), n)); }

CONSTANT_INLINE void update_gru(const lf_step *s, int64_t row, int64_t panel, const vec *sum, const int USUAL) {
    const vec h = at_panel(s->h_prev, s->h_prev_stride, row, panel);
    const vec n = candidate(s, v_fma(gate(s, sum[1], USUAL), sum[3], sum[2]), USUAL);
    store_output(s, row, panel, blend(gate(s, sum[0], USUAL), h, n));
}

/* First half of a GRU without reset_after: z is kept, r*h goes on as the recurrent input of the second half. */
CONSTANT_INLINE void update_gru_gates(const lf_step *s, int64_t row, int64_t panel, const vec *z, const int USUAL) {
    v_store(at(s->c, s->c_stride, row) + panel * LANES, gate(s, z[0], USUAL));
    const vec h = at_panel(s->h_prev, s->h_prev_stride, row, panel);
    store_output(s, row, panel, v_mul(gate(s, z[1], USUAL), h));
}

CONSTANT_INLINE void update_gru_candidate(const lf_step *s, int64_t row, int64_t panel, const vec *n, const int USUAL) {
    const vec h = at_panel(s->h_prev, s->h_prev_stride, row, panel);
    const vec z = at_panel(s->c, s->c_stride, row, panel);
    store_output(s, row, panel, blend(z, h, candidate(s, n[0], USUAL)));
}

CONSTANT_INLINE void store_sums(const lf_step *s, int64_t row, int64_t panel, const vec *sum, const int V) {
    real *out = at(s->out, s->out_stride, row) + panel * s->part->panel_stride;
    UNROLL
    for (int v = 0; v < V; v++)
        v_store(out + v * s->part->gate_stride, sum[v]);
}

/* The sums of a panel, a vector for each gate; zeros behind the lanes of a folded one. */
CONSTANT_INLINE void unfold(vec *ready, const vec *sum, const int F, const update u) {
    UNROLL
    for (int a = 0; a < sums_of(u); a++)
        ready[a] = F == 1 || (u == GRU && a == 3) ? sum[a] : v_move_lanes(sum[a / F], a % F * (LANES / F), LANES / F);
}

/* The update of MR rows x NP panels. All cell states of an LSTM come before its outputs: what one row waits for in the
 * long chain from gates to output is filled with work on the others. */
CONSTANT_INLINE void finish(const lf_step *s, const int64_t *row, int64_t panel, vec *sum, const int MR, const int NP,
                            const update u, const int USUAL) {
    const int S = sums_of(u);
    if (u == LSTM) {
        ONE_BY_ONE
        for (int i = 0; i < MR * NP; i++)
            update_lstm_cell(s, row[i / NP], panel + i % NP, sum + i * S, USUAL);
    }
    ONE_BY_ONE
    for (int i = 0; i < MR * NP; i++) {
        if (u == LSTM)
            update_lstm(s, row[i / NP], panel + i % NP, sum + i * S, USUAL);
        else if (u == GRU)
            update_gru(s, row[i / NP], panel + i % NP, sum + i * S, USUAL);
        else if (u == GRU_GATES)
            update_gru_gates(s, row[i / NP], panel + i % NP, sum + i * S, USUAL);
        else if (u == GRU_CANDIDATE)
            update_gru_candidate(s, row[i / NP], panel + i % NP, sum + i * S, USUAL);
        else
            store_output(s, row[i / NP], panel + i % NP, candidate(s, sum[i * S], USUAL));
    }
}

/* Out of line: one copy for every kernel of the unit. */
static __attribute__((noinline)) void finish_by_calls(const lf_step *s, const int64_t *row, int64_t panel, vec *sum,
                                                      int MR, int NP, update u) {
    finish(s, row, panel, sum, MR, NP, u, 0);
}

/* How far ahead of the sums a tile of several rows fetches its weights, in numbers. One row reads them at the speed of
 * the cache that holds them, and only loses by asking for more. */
enum { AHEAD = 2048 / sizeof(real) };

/* The panels that come after these, so many further on, or 0 for none. Each of the tiles above these panels fetches its
 * share of them into the second-level cache: the first tile over a panel would otherwise wait for most of it. */
typedef struct {
    int64_t panels, tile, tiles;
} coming;

CONSTANT_INLINE void accumulate_terms(vec *sum, const real *const *operand, int64_t terms, const real *w,
                                      int64_t panel_size, const char *next, int64_t next_step, const int FETCH,
                                      const int MR, const int NP, const int F, const update u, const int RECURRENT) {
    const int S = sums_of(u), G = gates_of(u), FETCHES = F > 1 ? vectors_of(u, F) : NP * G;
    const real *folded = w + (NP - 1) * panel_size;
    for (int64_t k = 0; k < terms; k++, w += G * LANES, folded += vectors_of(u, F) * LANES) {
        vec value[MR_MAX];
        if (MR > 1) {
            UNROLL
            for (int i = 0; i < FETCHES; i++)
                if (i % G * sizeof(vec) % LF_ALIGN == 0)
                    __builtin_prefetch((F > 1 ? folded : w + i / G * panel_size) + i % G * LANES + AHEAD);
        }
        if (FETCH) {
            __builtin_prefetch(next, 0, 2);
            next += next_step;
        }
        UNROLL
        for (int m = 0; m < MR; m++)
            value[m] = v_set1(number_at(operand[m] + k));
        UNROLL
        for (int p = 0; p < NP; p++) {
            const int folds = F > 1 && p == NP - 1, V = vectors_of(u, folds ? F : 1);
            const real *panel = folds ? folded : w + p * panel_size;
            UNROLL
            for (int v = 0; v < V; v++) {
                const vec weight = v_load(panel + v * LANES);
                const int a = u == GRU && RECURRENT && v == V - 1 ? 3 : v;
                UNROLL
                for (int m = 0; m < MR; m++)
                    sum[(m * NP + p) * S + a] = v_fma(value[m], weight, sum[(m * NP + p) * S + a]);
            }
        }
    }
}

/* sum[m][p][v] += operand[m][k] * w[panel + p][k][v] for all k; a GRU has sum[3] for the recurrent candidate. */
CONSTANT_INLINE void accumulate(vec *sum, const real *const *operand, int64_t terms, const void *weights, int64_t panel,
                                const coming *c, const int MR, const int NP, const int F, const update u,
                                const int RECURRENT) {
    const int64_t panel_size = terms * gates_of(u) * LANES; /* of all but a folded one, behind which there is none */
    const real *w = (const real *)weights + panel * panel_size;
    if (MR > 1 && c->panels) {
        const int64_t bytes = NP * gates_of(u) * LANES * (int64_t)sizeof(real);
        const char *next = (const char *)(w + c->panels * panel_size) + bytes * terms * c->tile / c->tiles;
        accumulate_terms(sum, operand, terms, w, panel_size, next, bytes / c->tiles, 1, MR, NP, F, u, RECURRENT);
    } else {
        accumulate_terms(sum, operand, terms, w, panel_size, NULL, 0, 0, MR, NP, F, u, RECURRENT);
    }
}

/* MR rows x NP panels, the last of which has F gates to a vector. */
CONSTANT_INLINE void tile(const lf_step *s, int64_t first, int64_t panel, const coming *c, const int MR, const int NP,
                          const int F, const update u) {
    const lf_part *part = s->part;
    const int S = sums_of(u);
    int64_t row[MR_MAX];
    const real *operand[MR_MAX];
    vec sum[ACCUMULATORS];

    UNROLL
    for (int m = 0; m < MR; m++) {
        row[m] = s->rows ? s->rows[first + m] : first + m;
        const real *init = at(s->init, s->init_stride, row[m]);
        UNROLL
        for (int p = 0; p < NP; p++) {
            const int vectors = vectors_of(u, p == NP - 1 ? F : 1);
            UNROLL
            for (int v = 0; v < vectors; v++)
                sum[(m * NP + p) * S + v] = v_load(init + (panel + p) * part->panel_stride + v * part->gate_stride);
        }
    }
    if (s->x) {
        UNROLL
        for (int m = 0; m < MR; m++)
            operand[m] = (const real *)s->x[row[m]];
        accumulate(sum, operand, part->inputs, part->w_x, panel, c, MR, NP, F, u, 0);
    }
    if (u == GRU) { /* only now: more sums through the loop above would not fit the registers */
        UNROLL
        for (int i = 0; i < MR * NP; i++)
            sum[i * S + 3] = at_panel(s->init_hn, s->init_hn_stride, row[i / NP], panel + i % NP);
    }
    if (s->h) {
        UNROLL
        for (int m = 0; m < MR; m++)
            operand[m] = at(s->h, s->h_stride, row[m]);
        accumulate(sum, operand, part->recurrent, s->w_h, panel, c, MR, NP, F, u, 1);
    }
    if (s->out) {
        UNROLL
        for (int i = 0; i < MR * NP; i++)
            store_sums(s, row[i / NP], panel + i % NP, sum + i * S, vectors_of(u, i % NP == NP - 1 ? F : 1));
        return;
    }
    /* A copy with a run-time index, so that `sum` itself stays in registers through the loops above. */
    vec ready[ACCUMULATORS];
    UNROLL
    for (int i = 0; i < MR * NP; i++)
        unfold(ready + i * S, sum + i * S, i % NP == NP - 1 ? F : 1, u);
    if (is_usual(s, u))
        finish(s, row, panel, ready, MR, NP, u, 1);
    else
        finish_by_calls(s, row, panel, ready, MR, NP, u);
}

CONSTANT_INLINE void tile_of_rows(const lf_step *s, int64_t first, int64_t panel, const coming *c, int rows,
                                  const int NP, const int F, const update u) {
    switch (rows) {
    case 2:
        tile(s, first, panel, c, 2, NP, F, u);
        break;
    case 3:
        tile(s, first, panel, c, 3, NP, F, u);
        break;
    case 4:
        if (MR_MAX >= 4)
            tile(s, first, panel, c, 4, NP, F, u);
        break;
    case 5:
        if (MR_MAX >= 5)
            tile(s, first, panel, c, 5, NP, F, u);
        break;
    case 6:
        if (MR_MAX >= 6)
            tile(s, first, panel, c, 6, NP, F, u);
        break;
    }
}

static int64_t panels_to_come(const lf_step *s, int64_t panel, int NP) {
    const int64_t terms = (s->x ? s->part->inputs : 0) + (s->h ? s->part->recurrent : 0);
    const int64_t next = s->descending ? panel - NP : panel + NP;
    const int exist = next >= s->first_panel && next + NP <= s->last_panel;
    const int64_t size = (s->last_panel - s->first_panel) * s->part->panel_stride * terms * (int64_t)sizeof(real);
    return exist && size > s->cached_bytes ? next - panel : 0;
}

/* All rows over NP panels, in tiles of nearly equal height: 16 = 6 + 5 + 5, so a tile of one row never trails. */
CONSTANT_INLINE void over_rows(const lf_step *s, int64_t panel, const int NP, const int F, const update u) {
    const int64_t tiles = (s->n + MR_MAX - 1) / MR_MAX;
    int64_t first = 0;
    coming c = {tiles > 1 ? panels_to_come(s, panel, NP) : 0, 0, tiles};
    for (; c.tile < tiles; c.tile++) {
        const int rows = (int)((s->n - first + tiles - c.tile - 1) / (tiles - c.tile));
        tile_of_rows(s, first, panel, &c, rows, NP, F, u);
        first += rows;
    }
}

/* WHOLE panels, and the folded one behind them where F > 1. Several rows never ask for both: their tiles are full. */
CONSTANT_INLINE void over_panels(const lf_step *s, int64_t panel, const int WHOLE, const int F, const update u) {
    const int NP = WHOLE + (F > 1);
    if (NP == 0 || F > gates_of(u) || WHOLE * sums_of(u) > 8)
        return;
    if (s->n == 1)
        tile(s, 0, panel, NULL, 1, NP, F, u);
    else if (NP * sums_of(u) <= 4 && (WHOLE == 0 || F == 1))
        over_rows(s, panel, NP, F, u);
}

CONSTANT_INLINE void over_piece(const lf_step *s, int64_t panel, const int WHOLE, int fold, const update u) {
    if (fold == 1)
        over_panels(s, panel, WHOLE, 1, u);
    else if (fold == 2)
        over_panels(s, panel, WHOLE, 2, u);
    else
        over_panels(s, panel, WHOLE, 4, u);
}

/* Recurrent weights from which on nearly all of a step's come from the second-level cache. */
enum { STREAMED = 160 * 1024 };

/* One row needs 8 accumulators to cover the latency of the multiply-add; several rows bring their own. Weights out of
 * the second-level cache arrive no faster than 4 accumulators of 64 bytes take them, and fastest as one stream. */
CONSTANT_INLINE int panels_at_once(const lf_step *s, const update u) {
    if (s->n > 1)
        return 4 / sums_of(u);
    const int64_t weights = s->part->columns * s->part->recurrent * (int64_t)sizeof(real);
    return gates_of(u) == 4 && sizeof(vec) == 64 && weights >= STREAMED ? 1 : 8 / sums_of(u);
}

/* Panels in groups, the last group in pieces of half the size, a quarter ... Behind it comes a folded panel: with
 * several rows it is a group of its own; of one row it goes along, as its one or two accumulators wait for one another.
 */
CONSTANT_INLINE void step(const lf_step *s, const update u) {
    const int folded = s->part->fold > 1 && s->last_panel == s->part->panels, along = folded && s->n == 1;
    const int64_t most = panels_at_once(s, u), whole = s->last_panel - folded - s->first_panel;
    const int64_t groups = along && whole == 0 ? 1 : (whole + most - 1) / most + (folded && !along);
    for (int64_t i = 0; i < groups; i++) {
        const int64_t group = s->descending ? groups - 1 - i : i;
        int64_t from = group * most < whole ? group * most : whole;
        const int64_t to = from + most < whole ? from + most : whole;
        do {
            const int size = (int)(to - from);
            const int piece = size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : size;
            const int fold = folded && from + piece == whole && (along || piece == 0) ? s->part->fold : 1;
            const int64_t panel = s->first_panel + from;
            switch (piece) {
            case 0:
                over_piece(s, panel, 0, fold, u);
                break;
            case 1:
                over_piece(s, panel, 1, fold, u);
                break;
            case 2:
                over_piece(s, panel, 2, fold, u);
                break;
            case 4:
                over_piece(s, panel, 4, fold, u);
                break;
            case 8:
                over_piece(s, panel, 8, fold, u);
                break;
            }
            from += piece;
        } while (from < to);
    }
}

static void step_lstm(const lf_step *s) { step(s, LSTM); }
static void step_gru(const lf_step *s) { step(s, GRU); }
static void step_gru_gates(const lf_step *s) { step(s, GRU_GATES); }
static void step_gru_candidate(const lf_step *s) { step(s, GRU_CANDIDATE); }
static void step_rnn(const lf_step *s) { step(s, RNN); }

const lf_kernels TABLE = {
    .isa = ISA_NAME,
    .lanes = LANES,
    .item_size = sizeof(real),
    .lstm = step_lstm,
    .gru = step_gru,
    .gru_gates = step_gru_gates,
    .gru_candidate = step_gru_candidate,
    .rnn = step_rnn,
    .softmax = softmax,
    .activate = activate,
};
