/* pack.c - canonical weights into the layouts of lf_impl.h. Pure copying: no number is changed. */
#include "lf_impl.h"

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

/* [panel][k][gate][lane]: `terms` values of k from `weight`, the first at k = `first` */
static void pack_panels(packing *p, const void *weight, int64_t first, int64_t terms) {
    const lf_part *part = p->part;
    const int64_t all_terms = part->inputs + part->recurrent;
    for (int64_t unit = 0; unit < part->units; unit++)
        for (int gate = 0; gate < part->gates; gate++)
            for (int64_t k = 0; k < terms; k++) {
                const int64_t at = ((unit / p->lanes * all_terms + first + k) * part->gates + gate) * p->lanes;
                copy(p, at + unit % p->lanes, weight, source_row(p, gate, unit), terms, k);
            }
}

/* (gate * N*L + unit, k) row-major, as BLAS reads a transposed matrix */
static void pack_matrix(packing *p, const void *weight, int64_t first_row_offset, int64_t terms) {
    for (int gate = 0; gate < p->part->gates; gate++)
        for (int64_t unit = 0; unit < p->part->units; unit++)
            for (int64_t k = 0; k < terms; k++)
                copy(p, first_row_offset + (gate * p->part->padded + unit) * terms + k, weight,
                     source_row(p, gate, unit), terms, k);
}

static void pack_bias(packing *p) {
    const lf_part *part = p->part;
    for (int gate = 0; gate < part->gates; gate++)
        for (int64_t unit = 0; unit < part->units; unit++) {
            const int64_t panel = unit / p->lanes * part->panel_stride;
            copy(p, panel + gate * part->gate_stride + unit % p->lanes, p->source->bias, source_row(p, gate, unit), 1,
                 0);
        }
}

lf_status lf_pack(const lf_plan *plan, lf_part *part, const lf_part_source *source) {
    const int64_t lanes = plan->kernels->lanes;
    packing p = {part, source, lanes, plan->kernels->item_size, NULL};
    part->panels = (part->units + lanes - 1) / lanes;
    part->padded = part->panels * lanes;
    part->columns = part->gates * part->padded;
    part->panel_stride = plan->backend == LF_BLAS ? lanes : part->gates * lanes;
    part->gate_stride = plan->backend == LF_BLAS ? part->padded : lanes;
    part->w = lf_alloc_zeroed((size_t)(part->columns * (part->inputs + part->recurrent) * p.item));
    part->bias = lf_alloc_zeroed((size_t)(part->columns * p.item));
    part->bias_hn = lf_alloc_zeroed((size_t)(part->padded * p.item));
    if (!part->w || !part->bias || !part->bias_hn)
        return LF_NO_MEMORY;

    p.to = part->w;
    if (plan->backend == LF_BLAS) {
        if (source->weight_x)
            pack_matrix(&p, source->weight_x, 0, part->inputs);
        if (source->weight_h)
            pack_matrix(&p, source->weight_h, part->columns * part->inputs, part->recurrent);
    } else {
        if (source->weight_x)
            pack_panels(&p, source->weight_x, 0, part->inputs);
        if (source->weight_h)
            pack_panels(&p, source->weight_h, part->inputs, part->recurrent);
    }
    p.to = part->bias;
    if (source->bias)
        pack_bias(&p);
    if (source->bias_hn)
        memcpy(part->bias_hn, source->bias_hn, (size_t)(part->units * p.item));
    return LF_OK;
}
