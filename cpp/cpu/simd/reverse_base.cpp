#include "reverse-inl.h"

namespace densefield::simd {

ReverseKernels<float> reverse_float_base() { return make_reverse_kernels<float>(); }
ReverseKernels<double> reverse_double_base() { return make_reverse_kernels<double>(); }

}  // namespace densefield::simd
