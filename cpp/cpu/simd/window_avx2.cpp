#include "window-inl.h"

namespace densefield::simd {

WindowKernels<float> window_float_avx2() { return make_window_kernels<float>(); }
WindowKernels<double> window_double_avx2() { return make_window_kernels<double>(); }

}  // namespace densefield::simd
