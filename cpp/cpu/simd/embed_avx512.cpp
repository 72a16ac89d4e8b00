#include "embed-inl.h"
#include "levels.h"

namespace densefield::simd {

EmbedFloat embed_float_avx512() { return &embed<float, int32_t>; }
EmbedDouble embed_double_avx512() { return &embed<double, int64_t>; }

}  // namespace densefield::simd
