/* kernels_avx2_f64.c - double kernels. */
#define LF_REAL_IS_DOUBLE
#include "vec_avx2.h"

#define TABLE lf_kernels_avx2_f64
#include "kernels_impl.h"
