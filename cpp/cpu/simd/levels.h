// The levels that cmake/simd.cmake compiles for this processor family.
#pragma once

#include "kernels.h"

namespace densefield::simd {

using EmbedFloat = void (*)(const EmbedBlock<float, int32_t>&);
using EmbedDouble = void (*)(const EmbedBlock<double, int64_t>&);

#define DF_DECLARE_LEVEL(level)               \
  EmbedFloat embed_float_##level();           \
  EmbedDouble embed_double_##level();         \
  Kernels<float> kernels_##level(EmbedFloat); \
  Kernels<double> kernels_##level(EmbedDouble);

DF_DECLARE_LEVEL(base)
#ifdef DF_X86_64
DF_DECLARE_LEVEL(avx2)
DF_DECLARE_LEVEL(avx512)
#endif

#undef DF_DECLARE_LEVEL

}  // namespace densefield::simd
