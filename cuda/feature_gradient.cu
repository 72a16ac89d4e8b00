// From the gradient of splat and slice to the weights, and from the weights to the features and
// their standard deviations: maths §4 "Gradients". Reads the stored tables; no point is embedded
// again.
#include "../cpp/core/embed_grad.h"
#include "../cpp/core/normalization.h"
#include "reduce.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
__global__ void weight_gradient_kernel(const T* rows,          // [N, C]
                                       const T* vertices,      // [M, C]
                                       const int32_t* corner,  // [N, corners]
                                       int64_t num_points, int corners, int64_t num_channels,
                                       T scale,
                                       T* grad_weight) {  // [N, corners] added to
  const int64_t i = row_of_group();
  if (i >= num_points) return;
  const unsigned mask = mask_of_group();
  for (int k = 0; k < corners; ++k) {
    const int64_t vertex = corner[i * corners + k] * num_channels;
    T sum = T(0);
    for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x)
      sum += rows[i * num_channels + c] * vertices[vertex + c];
    sum = sum_of_group(sum, mask);
    if (threadIdx.x == 0) grad_weight[i * corners + k] += scale * sum;
  }
}

template <typename T>
__global__ void scale_gradient_kernel(ScaleRule<T> rule,
                                      const T* pre,        // [N]
                                      const T* post,       // [N]
                                      const T* diagonal,   // [N] or nullptr
                                      const T* grad_self,  // [N] with `diagonal`
                                      int64_t num_nodes, int64_t stride,
                                      T* grad_pre,         // [N] in, out
                                      T* grad_post,        // [N] in, out
                                      T* grad_norm,        // [N, stride] out
                                      T* grad_diagonal) {  // [N] out, with `diagonal`
  const int64_t i = item_of_thread();
  if (i >= num_nodes) return;
  if (diagonal != nullptr) {
    const SelfGradient<T> by_self =
        self_gradient(rule.slice_scale, grad_self[i], diagonal[i], pre[i], post[i]);
    grad_diagonal[i] = by_self.diagonal;
    grad_pre[i] += by_self.pre;
    grad_post[i] += by_self.post;
  }
  grad_norm[i * stride] = normalization_gradient(rule, pre[i], post[i], grad_pre[i], grad_post[i]);
  for (int64_t c = 1; c < stride; ++c) grad_norm[i * stride + c] = T(0);
}

template <typename T>
__global__ void embedding_gradient_kernel(const T* scale,        // [d] of embedding_scales
                                          const uint8_t* rank,   // [N, d+1]
                                          const T* grad_weight,  // [N, d+1]
                                          int64_t num_points, int dim,
                                          T* grad_feature) {  // [N, d] out, per unit of sigma
  const int64_t i = item_of_thread();
  if (i >= num_points) return;
  embedding_gradient(dim, scale, rank + i * (dim + 1), grad_weight + i * (dim + 1),
                     grad_feature + i * dim);
}

// Values' part of the gradient, by values before their division by sigma.
template <typename T>
__global__ void add_value_gradient_kernel(const T* grad_feature,  // [N, d]
                                          const T* sigma,         // [channels]
                                          int64_t num_points, int dim, int num_axes,
                                          T* grad_values) {  // [N, channels] added to
  const int64_t i = item_of_thread();
  if (i >= num_points) return;
  const int channels = dim - num_axes;
  for (int c = 0; c < channels; ++c)
    grad_values[i * channels + c] += grad_feature[i * dim + num_axes + c] / sigma[c];
}

// f = p / sigma:  dL/dsigma = -sum of dL/df p / sigma^2.  The division comes later. One row of
// blocks for each feature; positions: extent is that of the axis and pitch that of one step.
template <typename T>
__global__ void sigma_gradient_kernel(const T* grad_feature,  // [N, d], of feature j: at + j
                                      int64_t num_points, int dim, int j,
                                      const T* values,  // [N] at their stride; nullptr: position
                                      int64_t node_stride, int64_t pitch, int64_t extent,
                                      double* part) {  // [blocks] out
  DF_SHARED(double, shared, kBlock);
  double sum = 0;
  for_rows(num_points, [&](int64_t i) {
    const double place =
        values != nullptr ? double(values[i * node_stride]) : double(i / pitch % extent);
    sum -= double(grad_feature[i * dim + j]) * place;
  });
  sum = sum_of_block(sum, shared);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

template <typename T>
class SigmaGradients {
 public:
  SigmaGradients(DeviceMemory& memory, const CudaLattice<T>& lattice, const T* grad_feature)
      : memory_(memory), lattice_(lattice), grad_feature_(grad_feature) {}

  // The sum for feature j, whose values are given or are positions along an axis.
  double sum(int j, const T* values, int64_t node_stride, int64_t pitch, int64_t extent) const {
    const LaunchShape shape = blocks_of_rows(lattice_.num_points());
    Buffer<double> part(memory_, shape.grid.x);
    launch("sigma_gradient_kernel", sigma_gradient_kernel<T>, shape, memory_.stream(),
           grad_feature_, lattice_.num_points(), lattice_.dimension, j, values, node_stride, pitch,
           extent, part.data());
    double total = 0;
    for (double p : download_all(memory_, part)) total += p;
    return total;
  }

 private:
  DeviceMemory& memory_;
  const CudaLattice<T>& lattice_;
  const T* grad_feature_;
};

template <typename T>
void add_sigma_gradients(DeviceMemory& memory, const CudaLattice<T>& lattice,
                         const Features<T>& features, const T* grad_feature,
                         const FeatureGradient<T>& out) {
  const SigmaGradients<T> gradients(memory, lattice, grad_feature);
  const auto num_axes = static_cast<int>(features.sigma_position.size());
  const auto& extent = lattice.layout->grid().extent;
  int64_t pitch = 1;
  for (int a = 0; a < num_axes && out.sigma_position != nullptr; ++a) {
    const auto place = static_cast<std::size_t>(a);
    const int64_t length = extent[extent.size() - 1 - place];
    const double sigma = double(features.sigma_position[place]);
    out.sigma_position[a] += gradients.sum(a, nullptr, 0, pitch, length) / (sigma * sigma);
    pitch *= length;
  }
  if (out.sigma_value == nullptr || features.values.num_channels == 0) return;
  const DeviceView<T> values = bring_to_device(memory, features.values);
  for (int64_t c = 0; c < features.values.num_channels; ++c) {
    const double sigma = double(features.sigma_value[static_cast<std::size_t>(c)]);
    out.sigma_value[c] += gradients.sum(num_axes + static_cast<int>(c), &values.view.at(c, 0),
                                        values.view.node_stride, 1, 1) /
                          (sigma * sigma);
  }
}

}  // namespace

template <typename T>
void weight_gradient(DeviceMemory& memory, const CudaLattice<T>& lattice, const T* rows,
                     const CudaVertexRows<T>& vertices, int64_t num_channels, T scale,
                     T* grad_weight) {
  if (num_channels == 0) return;
  launch("weight_gradient_kernel", weight_gradient_kernel<T>,
         group_each(lattice.num_points(), num_channels), memory.stream(), rows,
         vertices.values.data(), lattice.corner.data(), lattice.num_points(), lattice.corners,
         num_channels, scale, grad_weight);
}

template <typename T>
void scale_gradient(DeviceMemory& memory, const ScaleGradient<T>& scales) {
  if (scales.num_nodes == 0) return;
  launch("scale_gradient_kernel", scale_gradient_kernel<T>, one_each(scales.num_nodes),
         memory.stream(), scale_rule(scales.normalization, scales.slice_scale), scales.pre,
         scales.post, scales.diagonal, scales.grad_self, scales.num_nodes, scales.stride,
         scales.grad_pre, scales.grad_post, scales.grad_norm, scales.grad_diagonal);
}

template <typename T>
void feature_gradient(DeviceMemory& memory, const CudaLattice<T>& lattice,
                      const Features<T>& features, const T* grad_weight,
                      const FeatureGradient<T>& out) {
  const int dim = lattice.dimension;
  const int64_t num_points = lattice.num_points();
  std::vector<T> scale(static_cast<std::size_t>(dim));
  embedding_scales(dim, scale.data());
  const Buffer<T> device_scale = upload(memory, scale);
  Buffer<T> grad_feature(memory, num_points * dim);
  launch("embedding_gradient_kernel", embedding_gradient_kernel<T>, one_each(num_points),
         memory.stream(), device_scale.data(), lattice.rank.data(), grad_weight, num_points, dim,
         grad_feature.data());
  if (out.values.data != nullptr) {
    const NodeView<T>& to = out.values;
    const Buffer<T> sigma = upload(memory, features.sigma_value);
    Buffer<T> grad_values(memory, num_points * to.num_channels);
    const NodeView<const T> before{to.data, to.num_nodes, to.num_channels, to.node_stride,
                                   to.channel_stride};
    load_rows(memory, before, grad_values.data());
    launch("add_value_gradient_kernel", add_value_gradient_kernel<T>, one_each(num_points),
           memory.stream(), grad_feature.data(), sigma.data(), num_points, dim,
           static_cast<int>(features.sigma_position.size()), grad_values.data());
    store_rows<T>(memory, grad_values.data(), to);
  }
  add_sigma_gradients(memory, lattice, features, grad_feature.data(), out);
}

#define DF_INSTANTIATE(T)                                                                  \
  template void weight_gradient(DeviceMemory&, const CudaLattice<T>&, const T*,            \
                                const CudaVertexRows<T>&, int64_t, T, T*);                 \
  template void scale_gradient(DeviceMemory&, const ScaleGradient<T>&);                    \
  template void feature_gradient(DeviceMemory&, const CudaLattice<T>&, const Features<T>&, \
                                 const T*, const FeatureGradient<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
