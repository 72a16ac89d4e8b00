#include "kernels-inl.h"
#include "levels.h"

namespace densefield::simd {

Kernels<float> kernels_base(EmbedFloat embed) { return make_kernels<float>(embed); }
Kernels<double> kernels_base(EmbedDouble embed) { return make_kernels<double>(embed); }

}  // namespace densefield::simd
