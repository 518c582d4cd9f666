/* pipeline.h - the layers of a stage at once, each on another block of time. */
#ifndef LF_PIPELINE_H
#define LF_PIPELINE_H

#include "slice.h"

/* How many times faster so many members go through a stage in a pipeline than one does; 1 where it is not worth it. */
double lf_pipeline_gain(const lf_plan *plan, const lf_stage *stage, int64_t time, int members);

/* split.c: whether the gang makes a pipeline of a stage of so many steps. */
int lf_makes_pipeline(const lf_slice *s, const lf_stage *stage, int64_t time);

/* All of a stage, from x into y. */
void lf_run_pipeline(lf_slice *s, const lf_stage *stage, lf_view x, lf_view y, int64_t time);

#endif
