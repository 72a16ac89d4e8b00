// Embeds the points of one block and numbers the vertices they touch.
#pragma once

#include <algorithm>
#include <vector>

#include "../core/embed.h"
#include "densefield/error.h"
#include "key_layout.h"
#include "lattice_tables.h"
#include "simd/kernels.h"
#include "vertex_table.h"

namespace densefield::cpu {

// T is the type of the stored weights, E that of the embedding, W the words of a key.
template <typename T, typename E, int W>
class BlockEmbedder {
 public:
  BlockEmbedder(const Features<T>& features, const KeyLayout& keys, CpuLattice<T>& lattice)
      : features_(features),
        keys_(keys),
        steps_(make_key_steps<W>(keys)),
        lattice_(lattice),
        dim_(keys.dim),
        scale_(static_cast<size_t>(dim_)),
        feature_(host_memory(), dim_ * kChunk),
        weight_(host_memory(), (dim_ + 1) * kChunk),
        cell_(host_memory(), (dim_ + 1) * kChunk),
        rank_(host_memory(), (dim_ + 1) * kChunk) {
    embedding_scales(dim_, scale_.data());
  }

  // Fills weight, corner and rank of the block's points; returns the keys of its vertices
  // in order of first touch.
  std::vector<Key<W>> embed(const Block& block) {
    vertices_.clear();
    int64_t point = block.begin;
    for (int64_t r = block.run_begin; r < block.run_end; ++r) {
      const Run run = lattice_.layout->run(r);
      for (int64_t done = 0; done < run.length; done += kChunk) {
        const int64_t count = std::min(kChunk, run.length - done);
        load_features(run.node + done, count);
        simd::kernels<E>().embed({dim_, count, kChunk, scale_.data(), feature_.data(),
                                  weight_.data(), cell_.data(), rank_.data()});
        pack_cells(count);
        for (int64_t p = 0; p < count; ++p) store_point(p, point + p);
        point += count;
      }
    }
    return vertices_.keys();
  }

 private:
  using I = Int<E>;
  static constexpr int64_t kChunk = 128;  // points at a time: the planes stay in the L1 cache

  // The features of `count` grid neighbours. Division, not multiplication by 1/sigma: that
  // is what decides the simplex of points on a border in existing packages.
  void load_features(int64_t node, int64_t count) {
    const auto& extent = lattice_.layout->grid().extent;
    const int num_axes = static_cast<int>(features_.sigma_position.size());
    int64_t rest = node;
    for (int a = 0; a < num_axes; ++a) {
      const size_t axis = extent.size() - 1 - static_cast<size_t>(a);
      const int64_t coordinate = rest % extent[axis];
      rest /= extent[axis];
      const E sigma = E(features_.sigma_position[static_cast<size_t>(a)]);
      E* plane = feature_.data() + a * kChunk;
      // A run lies along the last axis, which comes first.
      for (int64_t p = 0; p < count; ++p) plane[p] = E(coordinate + (a == 0 ? p : 0)) / sigma;
    }
    for (int64_t c = 0; c < features_.values.num_channels; ++c) {
      const E sigma = E(features_.sigma_value[static_cast<size_t>(c)]);
      E* plane = feature_.data() + (num_axes + c) * kChunk;
      const T* from = &features_.values.at(c, node);
      const int64_t stride = features_.values.node_stride;
      for (int64_t p = 0; p < count; ++p) plane[p] = E(from[p * stride]) / sigma;
    }
    // The vectors behind the last point: any finite value.
    const int64_t padded = std::min(kChunk, (count + 7) / 8 * 8);
    for (int j = 0; j < dim_; ++j)
      for (int64_t p = count; p < padded; ++p) feature_[j * kChunk + p] = E(0);
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

  // Corner k of a simplex is corner k-1 one cell lower along the axis of rank d-k+1, with
  // remainder k: a walk along the ranks.
  void store_point(int64_t p, int64_t point) {
    T* weight = lattice_.weight.data() + point * (dim_ + 1);
    uint16_t* corner = lattice_.corner.data() + point * (dim_ + 1);
    uint8_t* rank = lattice_.rank.data() + point * (dim_ + 1);
    uint8_t axis_of_rank[kMaxDim + 1];
    for (int i = 0; i <= dim_; ++i) {
      const I r = rank_[i * kChunk + p];
      // Only if another thread wrote NaN into the features after they were checked.
      if (r < 0 || r > dim_) fail_value("features changed while the lattice was built");
      rank[i] = static_cast<uint8_t>(r);
      axis_of_rank[r] = static_cast<uint8_t>(i);
      weight[i] = static_cast<T>(weight_[i * kChunk + p]);
    }
    Key<W> key = cell_key_[p];
    // Neighbours often share a simplex; then they share its corners.
    if (p > 0 && key == cell_key_[p - 1] && std::equal(rank, rank + dim_ + 1, rank - dim_ - 1)) {
      std::copy_n(corner - dim_ - 1, dim_ + 1, corner);
      return;
    }
    corner[0] = static_cast<uint16_t>(vertices_.find_or_add(key));
    for (int k = 1; k <= dim_; ++k) {
      key = key + steps_.unit[axis_of_rank[dim_ + 1 - k]];
      corner[k] = static_cast<uint16_t>(vertices_.find_or_add(key));
    }
  }

  const Features<T>& features_;
  const KeyLayout& keys_;
  const KeySteps<W> steps_;
  CpuLattice<T>& lattice_;
  const int dim_;
  std::vector<E> scale_;
  Buffer<E> feature_;  // [d, kChunk]
  Buffer<E> weight_;   // [d+1, kChunk]
  Buffer<I> cell_;     // [d+1, kChunk]
  Buffer<I> rank_;     // [d+1, kChunk]
  Key<W> cell_key_[kChunk];
  VertexTable<W> vertices_;
};

}  // namespace densefield::cpu
