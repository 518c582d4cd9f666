/* kernels_generic.c - float kernels. */
#include "vec_generic.h"

#define TABLE lf_kernels_generic_f32
#include "kernels_impl.h"
