// From the range of the features to the bit fields of the vertex keys.
#pragma once

#include <vector>

#include "../core/key.h"
#include "layout.h"

namespace densefield::cpu {

struct KeyLayout {
  int dim = 0;
  int num_words = 0;
  bool needs_double = false;    // single precision would lose the place within the simplex
  std::vector<KeyField> field;  // one per coordinate u_0 .. u_{d-1}
};

// Remainders take the lowest bits of word 0.
constexpr int kRemainderBits = 6;
static_assert((1 << kRemainderBits) > kMaxDim, "a remainder is at most kMaxDim");

// Reads all features once. Throws Error (value) for NaN, infinity and coordinates that lie
// beyond 2^30 lattice cells, and for more than kMaxDim dimensions.
template <typename T>
KeyLayout make_key_layout(const CpuLayout& layout, const Features<T>& features);

// The steps between keys that this layout of fields implies.
template <int W>
KeySteps<W> make_key_steps(const KeyLayout& layout) {
  KeySteps<W> steps = {};
  for (int j = 0; j <= layout.dim; ++j) {
    steps.unit[j].word[0] = 1;
    if (j == layout.dim) continue;
    const KeyField& field = layout.field[static_cast<size_t>(j)];
    steps.unit[j].word[field.word] -= uint64_t{1} << field.shift;
    steps.wrap.word[field.word] += uint64_t{1} << field.shift;
  }
  steps.wrap.word[0] -= static_cast<uint64_t>(layout.dim + 1);
  return steps;
}

}  // namespace densefield::cpu
