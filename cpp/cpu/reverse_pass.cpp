// One update of mean field backwards, block by block; the arithmetic is simd/reverse-inl.h.
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "densefield/threads.h"
#include "pass_scratch.h"
#include "reverse_steps.h"
#include "simd/reverse_kernels.h"
#include "steps.h"

namespace densefield::cpu {

namespace {

template <typename T>
using ReverseWorker = WorkerScratch<T, simd::ReversePart<T>>;

template <typename T>
class BlockReverse {
 public:
  BlockReverse(const MeanFieldReversePass<T>& pass, int64_t stride) : pass_(pass), stride_(stride) {
    for (const auto& part : pass.kernels)
      sums_size_ += static_cast<size_t>(part.compatibility->values.size());
  }

  // Elements of all kernels' compatibility gradients, one behind the other.
  size_t sums_size() const { return sums_size_; }

  void prepare(std::span<ReverseWorker<T>> workers) const {
    const int64_t num_slots = most_slots(as_cpu(*pass_.layout), pass_.kernels);
    for (ReverseWorker<T>& worker : workers) {
      grown(worker.vertices, num_slots * stride_);
      grown(worker.rows, simd::kReverseScratchRows * stride_);
    }
  }

  // `sums` is zero before, and holds the block's part of the compatibility gradients after.
  void run(int64_t index, ReverseWorker<T>& scratch, double* sums) const {
    const Block& block = as_cpu(*pass_.layout).blocks()[static_cast<size_t>(index)];
    T* vertices = scratch.vertices.data();
    for (size_t m = 0; m < pass_.kernels.size(); ++m) {
      const ReverseKernel<T>& kernel = pass_.kernels[m];
      const CpuLattice<T>& lattice = as_cpu(*kernel.kernel->lattice);
      scratch.parts[m] = part_of(kernel, index, block, sums);
      sums += kernel.compatibility->values.size();
      if (lattice.grid) {
        scratch.grids[m] = grid_block(lattice, index);
        scratch.parts[m].grid = &scratch.grids[m];
      } else if (pass_.has_messages) {
        // The block's rows are read from a copy, because its sums go where they stood.
        std::memcpy(vertices, slots_of(lattice, *kernel.reversed, index),
                    slot_bytes(lattice, index));
        scratch.parts[m].reversed = vertices;
        vertices += lattice.slots_of_block(index) * stride_;
      }
      if (pass_.splats) std::memset(scratch.parts[m].sums, 0, slot_bytes(lattice, index));
    }
    const int64_t first = block.begin * stride_;
    simd::reverse_kernels<T>().pass(
        {block.end - block.begin, stride_, pass_.num_labels, static_cast<int>(pass_.kernels.size()),
         scratch.parts.data(), pass_.has_messages, pass_.of_scores, pass_.marginals + first,
         pass_.grad_scores + first, pass_.grad_unary + first, scratch.rows.data()});
  }

  void add_sums(const double* sums) const {
    for (const ReverseKernel<T>& kernel : pass_.kernels)
      for (int64_t i = 0; i < kernel.compatibility->values.size(); ++i)
        kernel.grad_compatibility[i] += *sums++;
  }

 private:
  T* slots_of(const CpuLattice<T>& lattice, VertexRows<T>& rows, int64_t index) const {
    return as_cpu(rows).slots.data() + lattice.slot_begin[static_cast<size_t>(index)] * stride_;
  }
  size_t slot_bytes(const CpuLattice<T>& lattice, int64_t index) const {
    return static_cast<size_t>(lattice.slots_of_block(index) * stride_) * sizeof(T);
  }

  // All but the copy of a lattice's vertices and a grid's tables.
  simd::ReversePart<T> part_of(const ReverseKernel<T>& from, int64_t index, const Block& block,
                               double* sums) const {
    const LatticeKernel<T>& kernel = *from.kernel;
    const CpuLattice<T>& lattice = as_cpu(*kernel.lattice);
    simd::ReversePart<T> part{};
    part.pre = kernel.pre.data() + block.begin;
    part.post = kernel.post.data() + block.begin;
    part.self = kernel.self.is_empty() ? nullptr : kernel.self.data() + block.begin;
    part.form = from.compatibility->form;
    part.compatibility = from.compatibility->values.data();
    part.transposed = from.transposed_compatibility->values.data();
    part.grad_compatibility = sums;
    if (pass_.splats) part.sums = slots_of(lattice, *from.reversed, index);
    if (lattice.grid && pass_.has_messages) part.reversed = as_cpu(*from.reversed).nodes.data();
    const int64_t first = block.begin * lattice.num_corners();
    if (!lattice.grid)
      part.corners = {block.end - block.begin, lattice.num_corners(), lattice.weight.data() + first,
                      lattice.corner.data() + first};
    if (!pass_.has_messages || from.forward == nullptr) return part;
    const auto at = [](T* data, int64_t offset) { return data == nullptr ? data : data + offset; };
    part.forward =
        lattice.grid ? as_cpu(*from.forward).nodes.data() : slots_of(lattice, *from.forward, index);
    part.grad_weight = at(from.grad_weight, first);
    part.grad_pre = at(from.grad_pre, block.begin);
    part.grad_post = at(from.grad_post, block.begin);
    part.grad_self = at(from.grad_self, block.begin);
    return part;
  }

  const MeanFieldReversePass<T>& pass_;
  const int64_t stride_;
  size_t sums_size_ = 0;
};

}  // namespace

template <typename T>
void mean_field_reverse_pass(const MeanFieldReversePass<T>& pass) {
  const CpuLayout& layout = as_cpu(*pass.layout);
  const BlockReverse<T> body(pass, padded_stride<T>(pass.num_labels));
  auto& scratch = static_cast<ReverseScratch<T>&>(*pass.scratch);
  const auto workers = scratch.workers.get(layout.num_blocks(), pass.kernels.size());
  const auto num_workers = static_cast<int>(workers.size());
  body.prepare(workers);
  // Blocks have sums of their own, added in the order of the blocks; so many at a time, or a
  // large image with a large matrix would need more memory for them than for its marginals.
  constexpr int64_t kBlocksAtOnce = 64;
  std::vector<double>& sums = scratch.sums;
  for (int64_t begin = 0; begin < layout.num_blocks(); begin += kBlocksAtOnce) {
    const int64_t count = std::min(kBlocksAtOnce, layout.num_blocks() - begin);
    sums.assign(static_cast<size_t>(count) * body.sums_size(), 0.0);
    const auto sums_of = [&](int64_t i) {
      return sums.data() + static_cast<size_t>(i) * body.sums_size();
    };
    parallel_for(count, num_workers, [&](int64_t i, int worker) {
      body.run(begin + i, workers[static_cast<size_t>(worker)], sums_of(i));
    });
    for (int64_t i = 0; i < count; ++i) body.add_sums(sums_of(i));
  }
  if (pass.splats)
    for (const ReverseKernel<T>& part : pass.kernels)
      sum_slots(as_cpu(*part.kernel->lattice), as_cpu(*part.reversed));
}

template void mean_field_reverse_pass(const MeanFieldReversePass<float>&);
template void mean_field_reverse_pass(const MeanFieldReversePass<double>&);

}  // namespace densefield::cpu
