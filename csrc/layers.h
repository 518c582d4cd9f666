/* layers.h - what the rooms of a run ask of one another. */
#ifndef LF_LAYERS_H
#define LF_LAYERS_H

#include "slice.h"

/* cell.c: state of one cell from and to the caller's arrays. */
void lf_cell_enter(const lf_slice *s, const lf_cell_plan *cell, int64_t index);
void lf_cell_leave(const lf_slice *s, const lf_cell_plan *cell, int64_t index);

/* cell.c: takes note that others have run that cell for so many steps. */
void lf_cell_follow(const lf_slice *s, int64_t index, int64_t steps);

/* Every member of a gang calls what follows, with the same arguments, and finds all of the result when it returns. */

/* cell.c: direction d of a recurrent node on steps [begin, begin + steps) of the sequence, last to first when
 * `backward`. x starts at `begin`; so does y, which is NULL where only the state is wanted. */
void lf_run_cell(lf_slice *s, const lf_node *node, int d, lf_view x, const lf_view *y, int64_t begin, int64_t steps,
                 int backward);

/* stateless.c: any other node; x and y start at `begin`. */
void lf_run_stateless(lf_slice *s, const lf_node *node, lf_view x, lf_view y, int64_t begin, int64_t steps);

/* run.c: nodes first .. last, none of which looks back, on steps [begin, begin + steps); `from` and `to` start at
 * `begin`. */
void lf_run_layers(lf_slice *s, int64_t first, int64_t last, lf_view from, lf_view to, int64_t begin, int64_t steps);

/* run.c: all stages, from x into y. */
void lf_run_stages(lf_slice *s, lf_view x, lf_view y);

/* call.c: whether the gang stops here. Its first member decides for all; they agree although the others read the
 * decision later, when the next one may have been taken. */
int lf_interrupted(lf_slice *s);

#endif
