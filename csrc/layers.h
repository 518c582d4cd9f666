/* layers.h - what a run asks of the layers. */
#ifndef LF_LAYERS_H
#define LF_LAYERS_H

#include "slice.h"

/* cell.c: state of one cell from and to the caller's arrays. */
void lf_cell_enter(const lf_slice *s, const lf_cell_plan *cell, int64_t index);
void lf_cell_leave(const lf_slice *s, const lf_cell_plan *cell, int64_t index);

/* cell.c: direction d of a recurrent node on steps [begin, begin + steps) of the sequence, last to first when
 * `backward`. x starts at `begin`; so does y, which is NULL where only the state is wanted. */
void lf_run_cell(lf_slice *s, const lf_node *node, int d, lf_view x, const lf_view *y, int64_t begin, int64_t steps,
                 int backward);

/* stateless.c: any other node; x and y start at `begin`. */
void lf_run_stateless(lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t begin, int64_t steps);

#endif
