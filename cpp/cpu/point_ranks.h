// The ranks of all points of a lattice, maths §4 step 2: the derivative of the weights needs them.
#pragma once

#include <cstdint>

#include "densefield/buffer.h"
#include "densefield/error.h"

namespace densefield::cpu {

// Four bits each in a word of 32 where that is enough, a byte each in more dimensions.
class PointRanks {
 public:
  static constexpr int kMostPacked = 8;  // ranks in a word

  PointRanks() = default;
  PointRanks(int64_t num_points, int dim) : dim_(dim) {
    if (is_packed())
      words_ = Buffer<uint32_t>(host_memory(), num_points);
    else
      bytes_ = Buffer<uint8_t>(host_memory(), num_points * (dim + 1));
  }

  bool is_packed() const { return dim_ < kMostPacked; }
  int64_t num_bytes() const { return words_.num_bytes() + bytes_.num_bytes(); }

  // Those of points first .. first + count - 1, from words of this sum: rank_i 16^i.
  template <typename I>
  void store_words(int64_t first, int64_t count, const I* word) {
    constexpr uint32_t kEach = 0x11111111;
    uint32_t excess = 0;  // bit 3 of every rank that is too large
    for (int64_t p = 0; p < count; ++p) {
      const auto ranks = static_cast<uint32_t>(word[p]);
      words_[first + p] = ranks;
      excess |= ranks | (ranks + static_cast<uint32_t>(kMostPacked - 1 - dim_) * kEach);
    }
    if ((excess & (kEach << 3)) != 0) fail();
  }

  // The same from planes: rank i of point p at [i * pitch + p].
  template <typename I>
  void store_planes(int64_t first, int64_t count, const I* rank, int64_t pitch) {
    uint8_t* to = bytes_.data() + first * (dim_ + 1);
    for (int64_t p = 0; p < count; ++p)
      for (int i = 0; i <= dim_; ++i) {
        if (rank[i * pitch + p] < 0 || rank[i * pitch + p] > dim_) fail();
        to[p * (dim_ + 1) + i] = static_cast<uint8_t>(rank[i * pitch + p]);
      }
  }

  // [d+1] ranks of a point, in `scratch` or elsewhere.
  const uint8_t* of_point(int64_t point, uint8_t* scratch) const {
    if (!is_packed()) return bytes_.data() + point * (dim_ + 1);
    for (int i = 0; i <= dim_; ++i)
      scratch[i] = static_cast<uint8_t>(words_[point] >> (4 * i) & 0xF);
    return scratch;
  }

 private:
  // Only if another thread wrote NaN into the features after they were checked.
  [[noreturn]] static void fail() { fail_value("features changed while the lattice was built"); }

  int dim_ = 0;
  Buffer<uint32_t> words_;  // [N]
  Buffer<uint8_t> bytes_;   // [N, d+1]
};

}  // namespace densefield::cpu
