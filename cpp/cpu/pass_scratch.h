// What the passes of an inference work in, kept from one update to the next.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "densefield/backend.h"
#include "densefield/threads.h"
#include "lattice_tables.h"
#include "scratch.h"
#include "simd/kernels.h"
#include "simd/reverse_kernels.h"

namespace densefield::cpu {

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

  // One for each thread that a loop over so many blocks can use, with room for the parts of so
  // many kernels. More threads than before get theirs here.
  std::span<Worker> get(int64_t num_blocks, size_t num_kernels) {
    const auto count = static_cast<size_t>(std::min<int64_t>(num_threads(), num_blocks));
    if (workers_.size() < count) workers_.resize(count);
    const std::span<Worker> all(workers_.data(), count);
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

template <typename T>
const CpuLattice<T>& lattice_of(const LatticeKernel<T>& kernel) {
  return as_cpu(*kernel.lattice);
}
template <typename T>
const CpuLattice<T>& lattice_of(const ReverseKernel<T>& part) {
  return lattice_of(*part.kernel);
}

// Slots that a block has in the lattices of all kernels together, at most.
template <typename Kernel>
int64_t most_slots(const CpuLayout& layout, std::span<const Kernel> kernels) {
  int64_t most = 0;
  for (int64_t index = 0; index < layout.num_blocks(); ++index) {
    int64_t count = 0;
    for (const Kernel& kernel : kernels)
      if (!lattice_of(kernel).grid) count += lattice_of(kernel).slots_of_block(index);
    most = std::max(most, count);
  }
  return most;
}

}  // namespace densefield::cpu
