/* pack.c - canonical weights into the layouts of lf_impl.h. Pure copying: no number is changed. */
#include "lf_impl.h"

#include <math.h>
#include <string.h>

typedef struct {
    const lf_part *part;
    const lf_part_source *source;
    int64_t lanes;
    int64_t item;
    char *to;
} packing;

/* to[at] = from[row, column] of a matrix with `columns` columns */
static void copy(packing *p, int64_t at, const void *from, int64_t row, int64_t columns, int64_t column) {
    memcpy(p->to + at * p->item, (const char *)from + (row * columns + column) * p->item, (size_t)p->item);
}

static int64_t source_row(const packing *p, int gate, int64_t unit) {
    return p->source->gate_rows[gate] * p->part->units + unit;
}

/* [panel][k][gate][lane] for k < terms, the last panel folded */
static void pack_panels(packing *p, const void *weight, int64_t terms) {
    const lf_part *part = p->part;
    for (int64_t unit = 0; unit < part->units; unit++) {
        const int64_t panel = unit / p->lanes, first = panel * terms * part->gates * p->lanes;
        const int fold = panel == part->panels - 1 ? part->fold : 1;
        const int64_t run = lf_vectors(part->gates, fold) * p->lanes, gate_lanes = p->lanes / fold;
        for (int gate = 0; gate < part->gates; gate++)
            for (int64_t k = 0; k < terms; k++) {
                const int64_t at = first + k * run + gate * gate_lanes + unit % p->lanes;
                copy(p, at, weight, source_row(p, gate, unit), terms, k);
            }
    }
}

/* (gate * N*L + unit, k) row-major, as BLAS reads a transposed matrix */
static void pack_matrix(packing *p, const void *weight, int64_t terms) {
    for (int gate = 0; gate < p->part->gates; gate++)
        for (int64_t unit = 0; unit < p->part->units; unit++)
            for (int64_t k = 0; k < terms; k++)
                copy(p, (gate * p->part->padded + unit) * terms + k, weight, source_row(p, gate, unit), terms, k);
}

static int all_finite(lf_dtype dtype, const void *numbers, int64_t n) {
    int all = 1;
    for (int64_t i = 0; i < n; i++)
        all &= dtype == LF_F64 ? isfinite(((const double *)numbers)[i]) : isfinite(((const float *)numbers)[i]);
    return all;
}

static void fill(const lf_plan *plan, lf_part *part, const lf_part_source *source) {
    packing p = {part, source, plan->kernels->lanes, plan->kernels->item_size, NULL};
    void (*const pack)(packing *, const void *, int64_t) = plan->backend == LF_BLAS ? pack_matrix : pack_panels;
    p.to = part->w_x;
    if (source->weight_x)
        pack(&p, source->weight_x, part->inputs);
    p.to = part->w_h;
    if (source->weight_h)
        pack(&p, source->weight_h, part->recurrent);
    part->finite = all_finite(plan->dtype, part->w_h, part->copy_bytes / p.item);
    for (int64_t i = 1; i < part->copies; i++)
        memcpy((char *)part->w_h + i * part->copy_bytes, part->w_h, (size_t)part->copy_bytes);
    p.to = part->bias;
    if (source->bias) /* as the weights of a single k */
        pack(&p, source->bias, 1);
    if (source->bias_hn)
        memcpy(part->bias_hn, source->bias_hn, (size_t)(part->units * p.item));
}

/* How many gates share a vector of the last panel. At most as many as there are, so that the last of three has one of
 * its own: a GRU sums its x and h parts apart. */
static int fold_last_panel(const lf_part *part, int64_t lanes) {
    const int64_t units = part->units - (part->panels - 1) * lanes;
    int fold = 1;
    while (2 * fold <= part->gates && 2 * fold * units <= lanes)
        fold *= 2;
    return fold;
}

enum { MOST_COPIES = 4 };

/* The fewest of so many bytes each that make a sweep long enough, and not so long that it leaves the cache; 1 where no
 * number does. */
static int64_t copies_of(const lf_plan *plan, int64_t bytes) {
    const int64_t least = plan->least_sweep / 8 * 7, most = plan->least_sweep / 4 * 5;
    for (int64_t n = 1; n <= MOST_COPIES; n++)
        if (n * bytes >= least && n * bytes <= most)
            return n;
    return 1;
}

int64_t lf_copies_in_turn(const lf_plan *plan, const lf_part *part, int members) {
    const int64_t wanted = copies_of(plan, part->copy_bytes / members);
    return wanted <= part->copies ? wanted : 1;
}

/* As many as any number of threads wants. Only of gates, and where a step of one row waits for nothing but them: with
 * narrower vectors it multiplies as long. */
static void count_copies(const lf_plan *plan, lf_part *part) {
    const lf_kernels *k = plan->kernels;
    part->copy_bytes = part->columns * part->recurrent * k->item_size;
    part->copies = 1;
    if (plan->least_sweep == 0 || plan->backend == LF_BLAS || part->gates < 3 || k->lanes * k->item_size != 64)
        return;
    const int64_t least = plan->least_sweep / (2 * MOST_COPIES);
    for (int members = 1; members <= plan->num_threads && part->copy_bytes / members >= least; members++) {
        const int64_t wanted = copies_of(plan, part->copy_bytes / members);
        part->copies = wanted > part->copies ? wanted : part->copies;
    }
}

void lf_pack(const lf_plan *plan, lf_carver *memory, lf_part *part, const lf_part_source *source) {
    const int64_t lanes = plan->kernels->lanes;
    const size_t item = (size_t)plan->kernels->item_size;
    part->panels = (part->units + lanes - 1) / lanes;
    part->padded = part->panels * lanes;
    part->fold = plan->backend == LF_BLAS ? 1 : fold_last_panel(part, lanes);
    part->columns = (part->gates * (part->panels - 1) + lf_vectors(part->gates, part->fold)) * lanes;
    part->panel_stride = plan->backend == LF_BLAS ? lanes : part->gates * lanes;
    part->gate_stride = plan->backend == LF_BLAS ? part->padded : lanes;
    part->w_x = lf_carve(memory, (size_t)(part->columns * part->inputs), item);
    count_copies(plan, part);
    part->w_h = lf_carve(memory, (size_t)part->copies, (size_t)part->copy_bytes);
    part->bias = lf_carve(memory, (size_t)part->columns, item);
    part->bias_hn = lf_carve(memory, (size_t)part->padded, item);
    if (memory->base)
        fill(plan, part, source);
}
