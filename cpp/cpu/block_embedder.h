// Embeds the points of one block and numbers the vertices they touch.
#pragma once

#include <algorithm>
#include <span>
#include <type_traits>
#include <vector>

#include "../core/embed.h"
#include "key_layout.h"
#include "lattice_tables.h"
#include "point_ranks.h"
#include "run_walk.h"
#include "simd/kernels.h"
#include "vertex_table.h"

namespace densefield::cpu {

// The corners of the points of a block, as numbers of the block's own. Many points share a
// cell: one look-up finds it, and its corners are then read from a small table by the subset
// of axes along which each lies one cell lower. Only corners that no point of the cell has
// touched before are looked up by their names.
template <int W>
class CornerNumbers {
 public:
  static constexpr int64_t kMostPoints = 128;  // at a time
  // Up to here there is a table, of 2^(d+1) entries of 2 bytes for a cell.
  static constexpr int kMaxTableDim = PointRanks::kMostPacked - 1;

  explicit CornerNumbers(const KeyLayout& keys) : steps_(make_key_steps<W>(keys)), dim_(keys.dim) {
    if (dim_ > kMaxTableDim) return;
    step_to_subset_.resize(size_t{1} << (dim_ + 1), Key<W>{});
    for (size_t subset = 0; subset < step_to_subset_.size(); ++subset)
      for (int i = 0; i <= dim_; ++i)
        if ((subset >> i & 1) != 0)
          step_to_subset_[subset] = step_to_subset_[subset] + steps_.unit[i];
  }

  // In order of first touch.
  std::span<const Key<W>> keys() const { return vertices_.keys(); }

  void clear() {
    vertices_.clear();
    cells_.clear();
    corner_of_subset_.clear();
  }

  // corner[p, k]; subset: that of corner k of point p at [k * pitch + p]. Step by step for all
  // points: what is known of them is read without a branch that nobody can foresee.
  template <typename I>
  void find(const Key<W>* cell, const I* subset, int64_t pitch, int64_t count, uint16_t* corner) {
    const int corners = dim_ + 1;
    uint32_t first_entry[kMostPoints];
    for (int64_t p = 0; p < count; ++p)
      first_entry[p] = static_cast<uint32_t>(cells_.find_or_add(cell[p])) << corners;
    const size_t needed = static_cast<size_t>(cells_.size()) << corners;
    if (corner_of_subset_.size() < needed) corner_of_subset_.resize(needed, kUnknown);

    uint16_t* table = corner_of_subset_.data();
    uint8_t incomplete[kMostPoints];
    constexpr int kUsual = 6;  // corners in the five dimensions of a colour image
    const int64_t num_incomplete =
        corners == kUsual
            ? find_known<kUsual>(first_entry, subset, pitch, count, corner, incomplete)
            : find_known<0>(first_entry, subset, pitch, count, corner, incomplete);
    for (int64_t n = 0; n < num_incomplete; ++n) {
      const int64_t p = incomplete[n];
      for (int k = 0; k < corners; ++k) {
        const auto of_corner = static_cast<size_t>(subset[k * pitch + p]);
        uint16_t& number = table[first_entry[p] + of_corner];
        if (number == kUnknown)
          number =
              static_cast<uint16_t>(vertices_.find_or_add(cell[p] + step_to_subset_[of_corner]));
        corner[p * corners + k] = number;
      }
    }
  }

  // Without a table: corner k is corner k-1 one cell lower along the axis of rank d-k+1.
  void find_by_rank(const Key<W>& cell, const uint8_t* rank, uint16_t* corner) {
    uint8_t axis_of_rank[kMaxDim + 1];
    for (int i = 0; i <= dim_; ++i) axis_of_rank[rank[i]] = static_cast<uint8_t>(i);
    Key<W> key = cell;
    corner[0] = static_cast<uint16_t>(vertices_.find_or_add(key));
    for (int k = 1; k <= dim_; ++k) {
      key = key + steps_.unit[axis_of_rank[dim_ + 1 - k]];
      corner[k] = static_cast<uint16_t>(vertices_.find_or_add(key));
    }
  }

 private:
  // Corners that are known; returns the number of points with others, which it lists.
  template <int K, typename I>
  int64_t find_known(const uint32_t* first_entry, const I* subset, int64_t pitch, int64_t count,
                     uint16_t* corner, uint8_t* incomplete) const {
    const int corners = K > 0 ? K : dim_ + 1;
    const uint16_t* table = corner_of_subset_.data();
    int64_t num_incomplete = 0;
    for (int64_t p = 0; p < count; ++p) {
      uint32_t is_unknown = 0;
      for (int k = 0; k < corners; ++k) {
        const uint16_t number =
            table[first_entry[p] + static_cast<uint32_t>(subset[k * pitch + p])];
        corner[p * corners + k] = number;
        is_unknown |= uint32_t{number} + 1;
      }
      incomplete[num_incomplete] = static_cast<uint8_t>(p);
      num_incomplete += is_unknown >> 16;
    }
    return num_incomplete;
  }

  static constexpr uint16_t kUnknown = 65535;  // a block has fewer corners: layout.cpp

  const KeySteps<W> steps_;
  const int dim_;
  std::vector<Key<W>> step_to_subset_;  // [2^(d+1)] from a cell to its corners
  VertexTable<W, uint16_t> vertices_;
  VertexTable<W, uint16_t> cells_;
  std::vector<uint16_t> corner_of_subset_;  // [cells, 2^(d+1)]
};

// T is the type of the stored weights, E that of the embedding, W the words of a key.
template <typename T, typename E, int W>
class BlockEmbedder {
 public:
  BlockEmbedder(const Features<T>& features, const KeyLayout& keys, CpuLattice<T>& lattice)
      : features_(features),
        keys_(keys),
        lattice_(lattice),
        dim_(keys.dim),
        has_table_(dim_ <= CornerNumbers<W>::kMaxTableDim),
        scale_(static_cast<size_t>(dim_)),
        feature_(host_memory(), dim_ * kChunk),
        weight_(host_memory(), (dim_ + 1) * kChunk),
        cell_(host_memory(), (dim_ + 1) * kChunk),
        rank_(host_memory(), (dim_ + 1) * kChunk),
        packed_rank_(host_memory(), kChunk),
        subset_(host_memory(), (dim_ + 1) * kChunk),
        corners_(keys) {
    embedding_scales(dim_, scale_.data());
  }

  // Fills weight, corner and ranks of the block's points; returns the keys of its vertices
  // in order of first touch.
  std::span<const Key<W>> embed(const Block& block) {
    corners_.clear();
    RunWalk walk(*lattice_.layout, block);
    for (int64_t point = block.begin; point < block.end;) {
      const int64_t count = std::min(kChunk, block.end - point);
      for (int64_t filled = 0; filled < count;) {
        const Run piece = walk.take(count - filled);
        load_features(piece.node, piece.length, filled);
        filled += piece.length;
      }
      embed_chunk(point, count);
      point += count;
    }
    return corners_.keys();
  }

 private:
  using I = Int<E>;
  // Points at a time: the planes stay in the first-level cache.
  static constexpr int64_t kChunk = CornerNumbers<W>::kMostPoints;

  // The features of `count` grid neighbours, from place `at` of the planes on. Division, not
  // multiplication by 1/sigma: that is what decides the simplex of points on a border in
  // existing packages.
  void load_features(int64_t node, int64_t count, int64_t at) {
    const auto& extent = lattice_.layout->grid().extent;
    const int num_axes = static_cast<int>(features_.sigma_position.size());
    int64_t rest = node;
    for (int a = 0; a < num_axes; ++a) {
      const size_t axis = extent.size() - 1 - static_cast<size_t>(a);
      const int64_t coordinate = rest % extent[axis];
      rest /= extent[axis];
      const E sigma = E(features_.sigma_position[static_cast<size_t>(a)]);
      E* plane = feature_.data() + a * kChunk + at;
      // A run lies along the last axis, which comes first.
      if (a == 0)
        for (int64_t p = 0; p < count; ++p) plane[p] = E(coordinate + p) / sigma;
      else
        std::fill_n(plane, count, E(coordinate) / sigma);
    }
    for (int64_t c = 0; c < features_.values.num_channels; ++c) {
      const E sigma = E(features_.sigma_value[static_cast<size_t>(c)]);
      E* plane = feature_.data() + (num_axes + c) * kChunk + at;
      const T* from = &features_.values.at(c, node);
      const int64_t stride = features_.values.node_stride;
      for (int64_t p = 0; p < count; ++p) plane[p] = E(from[p * stride]);
      for (int64_t p = 0; p < count; ++p) plane[p] /= sigma;  // by vectors
    }
  }

  void embed_chunk(int64_t point, int64_t count) {
    // The vectors behind the last point: any finite value.
    const int64_t padded = std::min(kChunk, (count + 7) / 8 * 8);
    for (int j = 0; j < dim_; ++j)
      std::fill_n(feature_.data() + j * kChunk + count, padded - count, E(0));
    simd::kernels<E>().embed({dim_, count, kChunk, scale_.data(), feature_.data(), weight_.data(),
                              cell_.data(), has_table_ ? nullptr : rank_.data(),
                              packed_rank_.data(), subset_.data()});
    store_weights(point, count);
    pack_cells(count);
    uint16_t* corner = lattice_.corner.data() + point * (dim_ + 1);
    if (has_table_) {
      lattice_.ranks.store_words(point, count, packed_rank_.data());
      corners_.find(cell_key_, subset_.data(), kChunk, count, corner);
    } else {
      lattice_.ranks.store_planes(point, count, rank_.data(), kChunk);
      for (int64_t p = 0; p < count; ++p)
        corners_.find_by_rank(cell_key_[p], lattice_.ranks.of_point(point + p, nullptr),
                              corner + p * (dim_ + 1));
    }
  }

  void store_weights(int64_t point, int64_t count) {
    const int64_t corners = dim_ + 1;
    T* to = lattice_.weight.data() + point * corners;
    if constexpr (std::is_same_v<T, E>) {
      simd::kernels<T>().pack_rows(weight_.data(), kChunk, count, corners, to);
    } else {
      for (int64_t i = 0; i < corners; ++i)
        for (int64_t p = 0; p < count; ++p)
          to[p * corners + i] = static_cast<T>(weight_[i * kChunk + p]);
    }
  }

  void pack_cells(int64_t count) {
    for (int64_t p = 0; p < count; ++p) cell_key_[p] = {};
    for (int i = 0; i < dim_; ++i) {
      const KeyField field = keys_.field[static_cast<size_t>(i)];
      const I* cell = cell_.data() + i * kChunk;
      for (int64_t p = 0; p < count; ++p)
        cell_key_[p].word[field.word] +=
            static_cast<uint64_t>(static_cast<int64_t>(cell[p]) - field.lowest) << field.shift;
    }
  }

  const Features<T>& features_;
  const KeyLayout& keys_;
  CpuLattice<T>& lattice_;
  const int dim_;
  const bool has_table_;
  std::vector<E> scale_;
  Buffer<E> feature_;      // [d, kChunk]
  Buffer<E> weight_;       // [d+1, kChunk]
  Buffer<I> cell_;         // [d+1, kChunk]
  Buffer<I> rank_;         // [d+1, kChunk]
  Buffer<I> packed_rank_;  // [kChunk]
  Buffer<I> subset_;       // [d+1, kChunk]
  Key<W> cell_key_[kChunk];
  CornerNumbers<W> corners_;
};

}  // namespace densefield::cpu
