/* kernels_generic_f64.c - double kernels. */
#define LF_REAL_IS_DOUBLE
#include "vec_generic.h"

#define TABLE lf_kernels_generic_f64
#include "kernels_impl.h"
