#include "kernels-inl.h"
#include "levels.h"

namespace densefield::simd {

Kernels<float> kernels_avx2(EmbedFloat embed) { return make_kernels<float>(embed); }
Kernels<double> kernels_avx2(EmbedDouble embed) { return make_kernels<double>(embed); }

}  // namespace densefield::simd
