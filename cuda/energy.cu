// Sums for KL divergence and energy, maths §2, in double: blocks of rows in a fixed order.
#include <cmath>

#include "../cpp/core/compatibility.h"
#include "reduce.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
__global__ void pairwise_kernel(const T* marginals,  // [N, L]
                                const T* messages,   // [N, L]
                                const T* self,       // [N]
                                CompatibilityForm form,
                                const T* table,  // [1], [L] or [L, L]
                                T offset, int64_t num_nodes, int64_t num_labels,
                                double* part) {  // [blocks, 2] out
  DF_SHARED(double, shared, kBlock);
  double pairs = 0, own = 0;
  for_rows(num_nodes, [&](int64_t i) {
    const T* q = marginals + i * num_labels;
    pairs +=
        bilinear_form(form, table, offset, q, messages + i * num_labels, num_labels, num_labels);
    own += double(self[i]) * bilinear_form(form, table, offset, q, q, num_labels, num_labels);
  });
  pairs = sum_of_block(pairs, shared);
  own = sum_of_block(own, shared);
  if (threadIdx.x != 0) return;
  part[2 * blockIdx.x] = pairs;
  part[2 * blockIdx.x + 1] = own;
}

template <typename T>
__global__ void unary_kernel(const T* marginals,  // [N, L]
                             const T* unary,      // [N, L]; nullptr: log q instead
                             int64_t num_nodes, int64_t num_labels,
                             double* part) {  // [blocks] out
  DF_SHARED(double, shared, kBlock);
  double sum = 0;
  for_rows(num_nodes, [&](int64_t i) {
    for (int64_t l = 0; l < num_labels; ++l) {
      const double q = double(marginals[i * num_labels + l]);
      if (unary != nullptr)
        sum += q * double(unary[i * num_labels + l]);
      else if (q > 0)
        sum += q * std::log(q);
    }
  });
  sum = sum_of_block(sum, shared);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

template <typename T>
double sum_of_unary(DeviceMemory& memory, int64_t num_nodes, const T* marginals, const T* unary,
                    int64_t num_labels) {
  if (num_nodes == 0) return 0;
  const LaunchShape shape = blocks_of_rows(num_nodes);
  Buffer<double> part(memory, shape.grid.x);
  launch("unary_kernel", unary_kernel<T>, shape, memory.stream(), marginals, unary, num_nodes,
         num_labels, part.data());
  double sum = 0;
  for (double p : download_all(memory, part)) sum += p;
  return sum;
}

}  // namespace

template <typename T>
PairwiseEnergy pairwise_energy(DeviceMemory& memory, int64_t num_nodes, const T* marginals,
                               const T* messages, const T* self, const CompatibilityTable<T>& table,
                               T offset, int64_t num_labels) {
  PairwiseEnergy energy;
  if (num_nodes == 0) return energy;
  const LaunchShape shape = blocks_of_rows(num_nodes);
  Buffer<double> part(memory, 2 * int64_t{shape.grid.x});
  launch("pairwise_kernel", pairwise_kernel<T>, shape, memory.stream(), marginals, messages, self,
         table.form, table.values.data(), offset, num_nodes, num_labels, part.data());
  const std::vector<double> parts = download_all(memory, part);
  for (std::size_t b = 0; b < parts.size(); b += 2) {
    energy.pairs += parts[b];
    energy.self += parts[b + 1];
  }
  return energy;
}

template <typename T>
double unary_energy(DeviceMemory& memory, int64_t num_nodes, const T* marginals, const T* unary,
                    int64_t num_labels) {
  return sum_of_unary(memory, num_nodes, marginals, unary, num_labels);
}

template <typename T>
double negative_entropy(DeviceMemory& memory, int64_t num_nodes, const T* marginals,
                        int64_t num_labels) {
  return sum_of_unary<T>(memory, num_nodes, marginals, nullptr, num_labels);
}

#define DF_INSTANTIATE(T)                                                                       \
  template PairwiseEnergy pairwise_energy(DeviceMemory&, int64_t, const T*, const T*, const T*, \
                                          const CompatibilityTable<T>&, T, int64_t);            \
  template double unary_energy(DeviceMemory&, int64_t, const T*, const T*, int64_t);            \
  template double negative_entropy(DeviceMemory&, int64_t, const T*, int64_t);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
