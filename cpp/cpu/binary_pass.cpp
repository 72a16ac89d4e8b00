// The fused update of a field with two labels, block by block; the arithmetic is
// simd/two_labels-inl.h.
#include <algorithm>
#include <span>
#include <type_traits>

#include "densefield/threads.h"
#include "pass_scratch.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {
namespace {

// Calls body(stride); a stride of 1 is a constant to the compiler, which then uses vectors.
template <typename Body>
void with_stride(int64_t stride, Body body) {
  if (stride == 1)
    body(std::integral_constant<int64_t, 1>{});
  else
    body(stride);
}

template <typename T>
using BinaryWorker = WorkerScratch<T, simd::BinaryPart<T>>;

template <typename T>
struct BinaryBlockPass {
  const BinaryPass<T>& pass;

  void prepare(std::span<BinaryWorker<T>> workers) const {
    const CpuLayout& layout = as_cpu(*pass.layout);
    const int64_t num_slots = most_slots(layout, pass.kernels);
    for (BinaryWorker<T>& worker : workers) {
      grown(worker.vertices, num_slots);
      if (pass.result != nullptr) grown(worker.marginals, 2 * layout.most_points());
    }
  }

  void run(int64_t index, BinaryWorker<T>& scratch) const {
    const CpuLayout& layout = as_cpu(*pass.layout);
    const Block& block = layout.blocks()[static_cast<size_t>(index)];
    const int64_t count = block.end - block.begin;
    place_parts(index, block, scratch);
    simd::BinaryBlock<T> work{count,
                              static_cast<int>(pass.kernels.size()),
                              scratch.parts.data(),
                              pass.score + block.begin,
                              nullptr,
                              nullptr};
    if (pass.result != nullptr) {
      work.marginal_0 = scratch.marginals.data();
      work.marginal_1 = work.marginal_0 + count;
    }
    simd::kernels<T>().binary_pass(work);
    if (pass.result != nullptr) {
      store(layout, block, work.marginal_0, 0);
      store(layout, block, work.marginal_1, 1);
    }
  }

 private:
  void place_parts(int64_t index, const Block& block, BinaryWorker<T>& scratch) const {
    T* vertices = scratch.vertices.data();
    for (size_t m = 0; m < pass.kernels.size(); ++m) {
      const LatticeKernel<T>& kernel = pass.kernels[m];
      const CpuLattice<T>& lattice = as_cpu(*kernel.lattice);
      CpuVertexRows<T>& rows = as_cpu(*pass.vertices[m]);
      T* slots = rows.slots.data() + lattice.slot_begin[static_cast<size_t>(index)];
      const auto num_slots = static_cast<size_t>(lattice.slots_of_block(index));
      simd::BinaryPart<T>& part = scratch.parts[m] = {};
      part.pre = kernel.pre.data() + block.begin;
      part.post = kernel.post.data() + block.begin;
      part.coupling = pass.coupling[m];
      if (lattice.grid) {
        scratch.grids[m] = grid_block(lattice, index);
        part.grid = &scratch.grids[m];
        if (pass.has_messages) part.vertices = rows.nodes.data();
      } else {
        const int64_t entry = block.begin * lattice.num_corners();
        part.corners = {block.end - block.begin, lattice.num_corners(),
                        lattice.weight.data() + entry, lattice.corner.data() + entry};
        // The block's values are read from a copy, because its sums go where they stood.
        if (pass.has_messages) part.vertices = std::copy_n(slots, num_slots, vertices) - num_slots;
        vertices += num_slots;
      }
      if (!pass.splats) continue;
      std::fill_n(slots, num_slots, T(0));
      part.sums = slots;
    }
  }

  void store(const CpuLayout& layout, const Block& block, const T* values, int64_t label) const {
    with_stride(pass.result->node_stride, [&](auto stride) {
      for (int64_t r = block.run_begin; r < block.run_end; ++r) {
        const Run& run = layout.run(r);
        T* to = &pass.result->at(label, run.node);
        for (int64_t i = 0; i < run.length; ++i) to[i * stride] = *values++;
      }
    });
  }
};

}  // namespace

template <typename T>
void binary_score(const CpuLayout& layout, NodeView<const T> unary, T* score) {
  parallel_for(layout.num_blocks(), [&](int64_t index, int) {
    const Block& block = layout.blocks()[static_cast<size_t>(index)];
    T* to = score + block.begin;
    with_stride(unary.node_stride, [&](auto stride) {
      for (int64_t r = block.run_begin; r < block.run_end; ++r) {
        const Run& run = layout.run(r);
        const T* label_0 = &unary.at(0, run.node);
        const T* label_1 = &unary.at(1, run.node);
        for (int64_t i = 0; i < run.length; ++i) *to++ = label_0[i * stride] - label_1[i * stride];
      }
    });
  });
}

template <typename T>
void binary_pass(const BinaryPass<T>& pass) {
  const int64_t num_blocks = as_cpu(*pass.layout).num_blocks();
  const BinaryBlockPass<T> body{pass};
  auto& scratch = static_cast<PassScratch<T>&>(*pass.scratch);
  const auto workers = scratch.binary_workers.get(num_blocks, pass.kernels.size());
  body.prepare(workers);
  parallel_for(num_blocks, static_cast<int>(workers.size()), [&](int64_t index, int worker) {
    body.run(index, workers[static_cast<size_t>(worker)]);
  });
  if (pass.splats)
    for (size_t m = 0; m < pass.kernels.size(); ++m)
      sum_slots(as_cpu(*pass.kernels[m].lattice), as_cpu(*pass.vertices[m]));
}

#define DF_INSTANTIATE(T)                                              \
  template void binary_score(const CpuLayout&, NodeView<const T>, T*); \
  template void binary_pass(const BinaryPass<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
