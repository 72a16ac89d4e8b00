// From the range of the features to the bit fields of the vertex keys; the same for all backends.
#pragma once

#include <limits>
#include <vector>

#include "../core/key.h"
#include "densefield/lattice.h"

namespace densefield {

struct ValueRange {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  bool is_finite = true;

  void add(double x);
  void add(const ValueRange& other);
};

struct KeyLayout {
  int dim = 0;
  int num_words = 0;
  bool needs_double = false;    // single precision would lose the place within the simplex
  int num_bits = 0;             // of the last word that are in use; all 64 of the others may be
  std::vector<KeyField> field;  // one per coordinate u_0 .. u_{d-1}
};

// Remainders take the lowest bits of word 0.
constexpr int kRemainderBits = 6;
static_assert((1 << kRemainderBits) > kMaxDim, "a remainder is at most kMaxDim");

// Words of the longest key: two coordinates of up to 32 bits fit a word.
constexpr int kMostKeyWords = 17;
static_assert(1 + kMaxDim / 2 <= kMostKeyWords);

// Throws Error (value) unless there are 1 to kMaxDim dimensions. To be called first.
template <typename T>
void check_dim(const Features<T>& features);

// From the range of each channel of the values, before it is divided by sigma. Throws Error
// (value) for NaN, infinity and coordinates that lie beyond 2^30 lattice cells.
template <typename T>
KeyLayout make_key_layout(const Grid& grid, const Features<T>& features,
                          const std::vector<ValueRange>& channels);

// Throws Error (value) where 32 bits cannot number that many vertices.
void check_vertex_count(int64_t count);

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

}  // namespace densefield
