#include "embed-inl.h"
#include "levels.h"

namespace densefield::simd {

EmbedFloat embed_float_base() { return &embed<float, int32_t>; }
EmbedDouble embed_double_base() { return &embed<double, int64_t>; }

}  // namespace densefield::simd
