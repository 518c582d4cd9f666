/* kernels_avx512_f64.c - double kernels. */
#define LF_REAL_IS_DOUBLE
#include "vec_avx512.h"

#define TABLE lf_kernels_avx512_f64
#include "kernels_impl.h"
