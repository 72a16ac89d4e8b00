// Names of lattice vertices: integer coordinates packed into W 64-bit words.
//
// A vertex is (u_0 .. u_{d-1}; r), see core/embed.h: r its remainder, u_i its coordinate
// in cells. Each u_i has a bit field wide enough for the range that occurs plus a margin,
// so that a step to a neighbour never carries into the next field; no coordinate wraps.
#pragma once

#include "embed.h"

namespace densefield {

template <int W>
struct Key {
  uint64_t word[W];

  friend DF_HD bool operator==(const Key& a, const Key& b) {
    uint64_t differs = 0;
    for (int i = 0; i < W; ++i) differs |= a.word[i] ^ b.word[i];
    return differs == 0;
  }
  friend DF_HD Key operator+(Key a, const Key& b) {
    for (int i = 0; i < W; ++i) a.word[i] += b.word[i];
    return a;
  }
};

// Where each coordinate lies. Built once for a lattice by cpp/cpu/key_layout.cpp.
struct KeyField {
  int word;
  int shift;
  int32_t lowest;  // smallest value the field holds
};

// The key of corner k of a simplex, core/embed.h: (cell_i - [rank_i > d-k], i < d; k).
template <int W>
DF_HD Key<W> corner_key(int d, int k,
                        const KeyField* field,  // [d]
                        const int32_t* cell,    // [d+1]
                        const uint8_t* rank) {  // [d+1]
  Key<W> key = {};
  key.word[0] = static_cast<uint64_t>(k);
  for (int i = 0; i < d; ++i) {
    const int32_t coordinate = cell[i] - (rank[i] > d - k ? 1 : 0);
    key.word[field[i].word] +=
        static_cast<uint64_t>(static_cast<int64_t>(coordinate) - field[i].lowest) << field[i].shift;
  }
  return key;
}

// A well-mixed 64-bit hash; tables take its top bits.
template <int W>
DF_HD uint64_t hash(const Key<W>& key) {
  uint64_t h = key.word[0];
  for (int i = 1; i < W; ++i) h = (h ^ (h >> 29)) * 0xBF58476D1CE4E5B9ull + key.word[i];
  h ^= h >> 32;
  return h * 0x9E3779B97F4A7C15ull;
}

// What is added to a key to get from a vertex to others. Subtraction is addition of the
// two's complement: fields are wide enough that the borrow never leaves them.
template <int W>
struct KeySteps {
  // unit[j], j < d: minus one cell along j, and remainder + 1; unit[d]: remainder + 1.
  Key<W> unit[kMaxDim + 1];
  Key<W> wrap;  // remainder d + 1 becomes 0: plus one cell along every axis

  // The blur neighbour of a vertex in direction j, [ABD10]: all coordinates + 1 and
  // coordinate j - d.
  DF_HD Key<W> neighbour(const Key<W>& key, int64_t remainder, int64_t dim, int j) const {
    const Key<W> next = key + unit[j];
    return remainder == dim ? next + wrap : next;
  }
};

}  // namespace densefield
