// A hash table from vertex keys to numbers in order of first touch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../core/key.h"

namespace densefield::cpu {

// Open addressing with linear probing, at most half full.
template <int W>
class VertexTable {
 public:
  explicit VertexTable(int bits = 10) : bits_(bits), cells_(size_t{1} << bits, kEmpty) {}

  int32_t size() const { return static_cast<int32_t>(keys_.size()); }
  const std::vector<Key<W>>& keys() const { return keys_; }

  void clear() {
    std::fill(cells_.begin(), cells_.end(), kEmpty);
    keys_.clear();
  }

  int32_t find_or_add(const Key<W>& key) {
    size_t cell = first_cell(key);
    for (; cells_[cell] != kEmpty; cell = (cell + 1) & mask())
      if (keys_[static_cast<size_t>(cells_[cell])] == key) return cells_[cell];
    const int32_t number = size();
    cells_[cell] = number;
    keys_.push_back(key);
    if (2 * keys_.size() > cells_.size()) grow();
    return number;
  }

 private:
  static constexpr int32_t kEmpty = -1;

  size_t mask() const { return cells_.size() - 1; }
  size_t first_cell(const Key<W>& key) const {
    return static_cast<size_t>(hash(key) >> (64 - bits_));
  }

  void grow() {
    ++bits_;
    cells_.assign(size_t{1} << bits_, kEmpty);
    for (int32_t number = 0; number < size(); ++number) {
      size_t cell = first_cell(keys_[static_cast<size_t>(number)]);
      while (cells_[cell] != kEmpty) cell = (cell + 1) & mask();
      cells_[cell] = number;
    }
  }

  int bits_;
  std::vector<int32_t> cells_;
  std::vector<Key<W>> keys_;
};

}  // namespace densefield::cpu
