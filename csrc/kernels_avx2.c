/* kernels_avx2.c - float kernels. */
#include "vec_avx2.h"

#define TABLE lf_kernels_avx2_f32
#include "kernels_impl.h"
