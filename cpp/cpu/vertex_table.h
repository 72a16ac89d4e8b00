// A hash table from vertex keys to numbers in order of first touch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/key.h"

namespace densefield::cpu {

// Open addressing with linear probing, at most half full. Nobody can foresee whether a key is
// there already, so no branch asks: keys are numbered from 1, and the wanted one is put at 0,
// where empty cells refer to.
template <int W, typename Number = uint32_t>
class VertexTable {
 public:
  explicit VertexTable(size_t expected_keys = 500) {
    while (most_keys() <= expected_keys) resize(bits_ + 1);
  }

  int32_t size() const { return static_cast<int32_t>(size_); }
  std::span<const Key<W>> keys() const { return {keys_.data() + 1, size_}; }

  void clear() {
    std::fill(cells_.begin(), cells_.end(), 0);
    size_ = 0;
  }

  int32_t find_or_add(const Key<W>& key) {
    keys_[0] = key;
    size_t cell = first_cell(key);
    while (!(keys_[cells_[cell]] == key)) cell = next_cell(cell);
    const uint32_t is_new = cells_[cell] == 0 ? 1 : 0;
    keys_[size_ + 1] = key;
    size_ += is_new;
    cells_[cell] = static_cast<Number>(cells_[cell] + is_new * size_);
    const Number number = cells_[cell];
    if (size_ == most_keys()) grow();
    return static_cast<int32_t>(number) - 1;
  }

 private:
  size_t most_keys() const { return cells_.size() / 2; }
  size_t next_cell(size_t cell) const { return (cell + 1) & (cells_.size() - 1); }
  size_t first_cell(const Key<W>& key) const {
    return static_cast<size_t>(hash(key) >> (64 - bits_));
  }

  void resize(int bits) {
    bits_ = bits;
    cells_.assign(size_t{1} << bits, 0);
    keys_.resize(1 + most_keys());
  }

  void grow() {
    resize(bits_ + 1);
    for (uint32_t number = 1; number <= size_; ++number) {
      size_t cell = first_cell(keys_[number]);
      while (cells_[cell] != 0) cell = next_cell(cell);
      cells_[cell] = static_cast<Number>(number);
    }
  }

  int bits_ = 0;
  std::vector<Number> cells_;
  std::vector<Key<W>> keys_;  // [1 + most_keys()]
  uint32_t size_ = 0;
};

}  // namespace densefield::cpu
