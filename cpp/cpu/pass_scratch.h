// What the passes of an inference work in, kept from one update to the next.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "densefield/update_scratch.h"
#include "lattice_tables.h"
#include "simd/kernels.h"
#include "simd/reverse_kernels.h"

namespace densefield::cpu {

// At least `size` elements. They lose what they held if there were fewer.
template <typename T>
T* grown(Buffer<T>& buffer, int64_t size) {
  if (buffer.size() < size) buffer = Buffer<T>(host_memory(), size);
  return buffer.data();
}

// Of one worker, for the largest block; `Part` is what its pass keeps for each kernel.
template <typename T, typename Part>
struct WorkerScratch {
  std::vector<Part> parts;
  std::vector<simd::GridBlock<T>> grids;
  Buffer<T> vertices;   // copies of the block's slots
  Buffer<T> marginals;  // on the way to the caller's array
  Buffer<T> unary;      // on the way from there
  Buffer<T> rows;
  Buffer<T> share;  // as PassPruning has it
};

template <typename T, typename Part>
class Workers {
 public:
  using Worker = WorkerScratch<T, Part>;

  // So many, each with room for the parts of so many kernels. More threads than before get
  // theirs here.
  std::span<Worker> get(int count, size_t num_kernels) {
    if (workers_.size() < static_cast<size_t>(count)) workers_.resize(static_cast<size_t>(count));
    const std::span<Worker> all(workers_.data(), static_cast<size_t>(count));
    for (Worker& worker : all) {
      worker.parts.resize(num_kernels);
      worker.grids.resize(num_kernels);
    }
    return all;
  }

 private:
  std::vector<Worker> workers_;
};

// make_update_scratch: a field has two labels or more, and uses one of the two kinds of workers.
template <typename T>
struct PassScratch final : UpdateScratch<T> {
  Workers<T, simd::PassKernel<T>> workers;
  Workers<T, simd::BinaryPart<T>> binary_workers;
  std::vector<T> change;  // [blocks]
};

// make_reverse_scratch
template <typename T>
struct ReverseScratch final : UpdateScratch<T> {
  Workers<T, simd::ReversePart<T>> workers;
  std::vector<double> sums;
};

// Slots that a block has in all lattices together, at most; lattice_of(kernel) for each of them.
template <typename T, typename Kernels, typename LatticeOf>
int64_t most_slots(const CpuLayout& layout, const Kernels& kernels, LatticeOf lattice_of) {
  int64_t most = 0;
  for (int64_t index = 0; index < layout.num_blocks(); ++index) {
    int64_t count = 0;
    for (const auto& kernel : kernels) {
      const CpuLattice<T>& lattice = as_cpu(*lattice_of(kernel));
      if (!lattice.grid) count += lattice.slots_of_block(index);
    }
    most = std::max(most, count);
  }
  return most;
}

}  // namespace densefield::cpu
