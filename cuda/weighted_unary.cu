#include <algorithm>
#include <cmath>
#include <vector>

#include "../cpp/core/softmax.h"
#include "../cpp/core/weighted_unary.h"
#include "launch.cuh"
#include "reduce.cuh"
#include "steps.cuh"
#include "weighted_unary.cuh"

namespace densefield::cuda {
namespace {

// One thread for a node. Limited by memory; the second and third look at a unary is answered by
// the caches.
template <typename T>
__global__ void weight_unary_kernel(const T* unary,  // (channel, node) at their strides
                                    int64_t channel_stride, int64_t node_stride,
                                    const T* weight,  // [num_labels]
                                    int64_t num_nodes, int64_t num_labels,
                                    T* log_p,     // [num_labels, num_nodes] out
                                    T* weighted,  // [num_labels, num_nodes] out
                                    T* start) {   // [num_labels, num_nodes] out, or nullptr
  const int64_t i = item_of_thread();
  if (i >= num_nodes) return;
  const T* const energy = unary + i * node_stride;
  T largest = -energy[0];
  for (int64_t c = 1; c < num_labels; ++c) largest = larger(largest, -energy[c * channel_stride]);
  T sum = T(0);
  for (int64_t c = 0; c < num_labels; ++c)
    sum += softmax_term(-energy[c * channel_stride], largest);
  const T log_sum = std::log(sum);
  for (int64_t c = 0; c < num_labels; ++c) {
    const T value = log_softmax(-energy[c * channel_stride], largest, log_sum);
    const int64_t entry = c * num_nodes + i;
    log_p[entry] = value;
    weighted[entry] = weighted_energy(value, weight[c]);
    if (start != nullptr) start[entry] = exp_nonpositive(value);
  }
}

// As above.
template <typename T>
__global__ void weighted_unary_gradient_kernel(const T* log_p,   // [num_labels, num_nodes]
                                               const T* weight,  // [num_labels]
                                               bool starts_from_log,
                                               const T* grad_weighted,  // [num_labels, num_nodes]
                                               const T* grad_start,     // [num_labels, num_nodes]
                                               int64_t num_nodes, int64_t num_labels,
                                               int64_t channel_stride, int64_t node_stride,
                                               T* grad_unary) {  // at its strides, out
  const int64_t i = item_of_thread();
  if (i >= num_nodes) return;
  const auto by_log_p = [&](int64_t c, T p) {
    const int64_t entry = c * num_nodes + i;
    return log_p_gradient(weight[c], grad_weighted[entry], starts_from_log ? T(1) : p,
                          grad_start[entry]);
  };
  T sum = T(0);
  for (int64_t c = 0; c < num_labels; ++c)
    sum += by_log_p(c, exp_nonpositive(log_p[c * num_nodes + i]));
  for (int64_t c = 0; c < num_labels; ++c) {
    const T p = exp_nonpositive(log_p[c * num_nodes + i]);
    grad_unary[c * channel_stride + i * node_stride] = log_softmax_gradient(p, by_log_p(c, p), sum);
  }
}

// The part of one block of nodes in the gradient by each label's weight, in double.
template <typename T>
__global__ void weight_gradient_kernel(const T* log_p,          // [num_labels, num_nodes]
                                       const T* grad_weighted,  // [num_labels, num_nodes]
                                       int64_t num_nodes, int64_t num_labels,
                                       double* part) {  // [num_labels, blocks along x] out
  DF_SHARED(double, shared, kBlock);
  for (int64_t c = blockIdx.y; c < num_labels; c += gridDim.y) {
    double own = 0;
    for_rows(num_nodes, [&](int64_t i) {
      const int64_t entry = c * num_nodes + i;
      own += double(grad_weighted[entry]) * double(weighted_energy(log_p[entry], T(1)));
    });
    const double sum = sum_of_block(own, shared);
    if (threadIdx.x == 0) part[c * gridDim.x + blockIdx.x] = sum;
  }
}

template <typename T>
Buffer<T> weights_on_device(DeviceMemory& memory, std::span<const double> weight) {
  const std::vector<T> values(weight.begin(), weight.end());
  Buffer<T> buffer(memory, static_cast<int64_t>(values.size()));
  upload_values(memory, values.data(), buffer.size(), buffer.data());
  return buffer;
}

}  // namespace

template <typename T>
void weight_unary(DeviceMemory& memory, NodeView<const T> unary, std::span<const double> weight,
                  T* log_p, T* weighted, T* start) {
  if (unary.num_nodes * unary.num_channels == 0) return;
  const Buffer<T> factor = weights_on_device<T>(memory, weight);
  launch("weight_unary_kernel", weight_unary_kernel<T>, one_each(unary.num_nodes), memory.stream(),
         unary.data, unary.channel_stride, unary.node_stride, factor.data(), unary.num_nodes,
         unary.num_channels, log_p, weighted, start);
}

template <typename T>
void weighted_unary_gradient(DeviceMemory& memory, const T* log_p, std::span<const double> weight,
                             bool starts_from_log, const T* grad_weighted, const T* grad_start,
                             NodeView<T> grad_unary, double* grad_weight) {
  const int64_t nodes = grad_unary.num_nodes, labels = grad_unary.num_channels;
  std::fill_n(grad_weight, labels, 0.0);
  if (nodes * labels == 0) return;
  const Buffer<T> factor = weights_on_device<T>(memory, weight);
  if (grad_unary.data != nullptr)
    launch("weighted_unary_gradient_kernel", weighted_unary_gradient_kernel<T>, one_each(nodes),
           memory.stream(), log_p, factor.data(), starts_from_log, grad_weighted, grad_start, nodes,
           labels, grad_unary.channel_stride, grad_unary.node_stride, grad_unary.data);
  constexpr int64_t kMostRows = 65535;  // of a grid
  LaunchShape shape = blocks_of_rows(nodes);
  shape.grid.y = static_cast<unsigned>(std::min(labels, kMostRows));
  Buffer<double> part(memory, labels * shape.grid.x);
  launch("weight_gradient_kernel", weight_gradient_kernel<T>, shape, memory.stream(), log_p,
         grad_weighted, nodes, labels, part.data());
  const std::vector<double> sums = download_all(memory, part);
  for (std::size_t k = 0; k < sums.size(); ++k) grad_weight[k / shape.grid.x] += sums[k];
}

#define DF_INSTANTIATE(T)                                                                       \
  template void weight_unary(DeviceMemory&, NodeView<const T>, std::span<const double>, T*, T*, \
                             T*);                                                               \
  template void weighted_unary_gradient(DeviceMemory&, const T*, std::span<const double>, bool, \
                                        const T*, const T*, NodeView<T>, double*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
