/* kernels_avx512.c - float kernels. */
#include "vec_avx512.h"

#define TABLE lf_kernels_avx512_f32
#include "kernels_impl.h"
