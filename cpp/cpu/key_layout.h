// The range of the features, by which keys are laid out: plan/key_layout.h.
#pragma once

#include "../plan/key_layout.h"
#include "layout.h"

namespace densefield::cpu {

// Reads all features once. Throws Error (value) for NaN, infinity and coordinates that lie
// beyond 2^30 lattice cells, and for more than kMaxDim dimensions.
template <typename T>
KeyLayout make_key_layout(const CpuLayout& layout, const Features<T>& features);

}  // namespace densefield::cpu
