// The fused update of mean field, block by block; the arithmetic is simd/pass-inl.h.
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "block_unary.h"
#include "densefield/threads.h"
#include "pass_scratch.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {
namespace {

template <typename T>
using PassWorker = WorkerScratch<T, simd::PassKernel<T>>;

template <typename T>
void collect_shares(std::span<const PassWorker<T>> workers, int64_t stride, std::vector<T>& share) {
  const int64_t lanes = padded_stride<T>(1);
  share.assign(static_cast<size_t>(stride / lanes), T(0));
  for (const PassWorker<T>& worker : workers)
    for (int64_t c = 0; c < stride; ++c) {
      T& largest = share[static_cast<size_t>(c / lanes)];
      // Written so that NaN wins, as where it comes from, and stays.
      if (largest == largest && !(worker.share[c] <= largest)) largest = worker.share[c];
    }
}

template <typename T>
struct BlockPass {
  const MeanFieldPass<T>& pass;
  const int64_t stride;       // of vertices and scores
  const int64_t node_stride;  // of nodes

  void prepare(std::span<PassWorker<T>> workers) const {
    const CpuLayout& layout = as_cpu(*pass.layout);
    const int64_t num_slots = most_slots(layout, pass.kernels);
    for (PassWorker<T>& worker : workers) {
      grown(worker.vertices, num_slots * stride);
      if (pass.unary == nullptr) grown(worker.unary, simd::kPassChunk * node_stride);
      if (pass.result != nullptr && pass.marginals == nullptr)
        grown(worker.marginals, layout.most_points() * node_stride);
      // Rows behind a chunk's last point are computed too, and must not slow that down.
      const int64_t num_elements = simd::kPassScratchRows * stride;
      std::fill_n(grown(worker.rows, num_elements), num_elements, T(0));
      if (pass.labels != nullptr && pass.labels->share != nullptr)
        std::fill_n(grown(worker.share, stride), stride, T(0));
    }
  }

  // The largest change of a marginal in the block, if it is asked for.
  T run(int64_t index, PassWorker<T>& scratch) const {
    const CpuLayout& layout = as_cpu(*pass.layout);
    const Block& block = layout.blocks()[static_cast<size_t>(index)];
    T* vertices = scratch.vertices.data();
    for (size_t m = 0; m < pass.kernels.size(); ++m) {
      const CpuLattice<T>& lattice = as_cpu(*pass.kernels[m].lattice);
      if (lattice.grid) {
        scratch.grids[m] = grid_block(lattice, index);
        scratch.parts[m] = grid_part(m, index, block, scratch.grids[m]);
      } else {
        scratch.parts[m] = lattice_part(m, index, block, vertices);
        if (pass.has_messages) vertices += lattice.slots_of_block(index) * stride;
      }
    }
    T change = 0;
    const int64_t first = block.begin * node_stride;
    const int32_t* order = pass.labels != nullptr ? pass.labels->order : nullptr;
    T* marginals = pass.marginals != nullptr ? pass.marginals + first : scratch.marginals.data();
    BlockUnary<T> reader(layout, block, pass.unary_nodes, order, node_stride, scratch.unary.data());
    simd::kernels<T>().pass({block.end - block.begin, stride, node_stride, pass.num_labels,
                             static_cast<int>(pass.kernels.size()), scratch.parts.data(),
                             pass.unary != nullptr ? pass.unary + first : nullptr, &reader,
                             pass.energy != nullptr ? pass.energy + first : nullptr,
                             pass.previous != nullptr ? pass.previous + first : nullptr, marginals,
                             scratch.rows.data(), pass.wants_change ? &change : nullptr,
                             pass.wants_scores, pruning(block, scratch.share.data())});
    if (pass.result != nullptr) store_block(layout, block, marginals, *pass.result, order);
    return change;
  }

 private:
  simd::PassPruning<T> pruning(const Block& block, T* share) const {
    if (pass.labels == nullptr || pass.labels->term == nullptr) return {};
    return {pass.labels->term + block.begin, pass.labels->plane, share};
  }

  simd::PassKernel<T> lattice_part(size_t m, int64_t index, const Block& block, T* vertices) const {
    const CpuLattice<T>& lattice = as_cpu(*pass.kernels[m].lattice);
    T* sums = slots_of(m, index);
    // The block's rows are read from a copy, because its sums go where they stood.
    if (pass.has_messages) std::memcpy(vertices, sums, slot_bytes(m, index));
    if (pass.splats) std::memset(sums, 0, slot_bytes(m, index));
    simd::PassKernel<T> part = part_of(m, block);
    const int64_t first = block.begin * lattice.num_corners();
    part.corners = {block.end - block.begin, lattice.num_corners(), lattice.weight.data() + first,
                    lattice.corner.data() + first};
    part.vertices = pass.has_messages ? vertices : nullptr;
    part.sums = pass.splats ? sums : nullptr;
    return part;
  }

  simd::PassKernel<T> grid_part(size_t m, int64_t index, const Block& block,
                                const simd::GridBlock<T>& grid) const {
    if (pass.splats) std::memset(slots_of(m, index), 0, slot_bytes(m, index));
    simd::PassKernel<T> part = part_of(m, block);
    part.grid = &grid;
    part.vertices = pass.has_messages ? as_cpu(*pass.vertices[m]).nodes.data() : nullptr;
    part.sums = pass.splats ? slots_of(m, index) : nullptr;
    return part;
  }

  // What the two have in common.
  simd::PassKernel<T> part_of(size_t m, const Block& block) const {
    const LatticeKernel<T>& kernel = pass.kernels[m];
    simd::PassKernel<T> part{};
    part.pre = kernel.pre.data() + block.begin;
    part.post = kernel.post.data() + block.begin;
    part.self = kernel.self.is_empty() ? nullptr : kernel.self.data() + block.begin;
    part.is_first = m == 0;
    part.form = pass.compatibility[m].form;
    part.compatibility = pass.compatibility[m].values.data();
    return part;
  }

  T* slots_of(size_t m, int64_t index) const {
    return as_cpu(*pass.vertices[m]).slots.data() +
           as_cpu(*pass.kernels[m].lattice).slot_begin[static_cast<size_t>(index)] * stride;
  }
  size_t slot_bytes(size_t m, int64_t index) const {
    return static_cast<size_t>(as_cpu(*pass.kernels[m].lattice).slots_of_block(index) * stride) *
           sizeof(T);
  }
};

}  // namespace

template <typename T>
T mean_field_pass(const MeanFieldPass<T>& pass) {
  const CpuLayout& layout = as_cpu(*pass.layout);
  const int64_t num_active = pass.labels != nullptr ? pass.labels->num_active : pass.num_labels;
  const BlockPass<T> body{pass, padded_stride<T>(num_active), padded_stride<T>(pass.num_labels)};
  auto& scratch = static_cast<PassScratch<T>&>(*pass.scratch);
  const auto workers = scratch.workers.get(layout.num_blocks(), pass.kernels.size());
  const auto num_workers = static_cast<int>(workers.size());
  body.prepare(workers);
  scratch.change.assign(static_cast<size_t>(layout.num_blocks()), T(0));
  parallel_for(layout.num_blocks(), num_workers, [&](int64_t index, int worker) {
    scratch.change[static_cast<size_t>(index)] =
        body.run(index, workers[static_cast<size_t>(worker)]);
  });
  if (pass.labels != nullptr && pass.labels->share != nullptr)
    collect_shares<T>(workers, body.stride, *pass.labels->share);
  if (pass.splats)
    for (size_t m = 0; m < pass.kernels.size(); ++m)
      sum_slots(as_cpu(*pass.kernels[m].lattice), as_cpu(*pass.vertices[m]));
  const std::vector<T>& change = scratch.change;
  return change.empty() ? T(0) : *std::max_element(change.begin(), change.end());
}

template float mean_field_pass(const MeanFieldPass<float>&);
template double mean_field_pass(const MeanFieldPass<double>&);

}  // namespace densefield::cpu
