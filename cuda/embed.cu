#include <type_traits>
#include <vector>

#include "../cpp/core/embed.h"
#include "embed.cuh"
#include "launch.cuh"

namespace densefield::cuda {
namespace {

// What a kernel needs to know to read a point's features, x first.
template <typename T>
struct PointFeatures {
  int num_axes;
  const int64_t* extent;  // [num_axes]
  const T* sigma;         // [d]
  const T* values;        // (channel, node) at their strides
  int64_t channel_stride;
  int64_t node_stride;

  template <typename Visit>
  void for_pointers(Visit visit) const {
    visit(extent);
    visit(sigma);
    visit(values);
  }

  // Division, not multiplication by 1/sigma: that is what decides the simplex of points on a
  // border in existing packages.
  template <typename E, typename Dim>
  __device__ void read(int64_t point, Dim dim, E* feature) const {
    int64_t rest = point;
    for (int j = 0; j < dim; ++j) {
      E value;
      if (j < num_axes) {
        value = static_cast<E>(rest % extent[j]);
        rest /= extent[j];
      } else {
        value = static_cast<E>(values[(j - num_axes) * channel_stride + point * node_stride]);
      }
      feature[j] = value / static_cast<E>(sigma[j]);
    }
  }
};

// One thread each. Limited by arithmetic: O(d^2) for a point.
template <typename T, typename E, typename Dim>
__global__ void embed_kernel(PointFeatures<T> features, Dim dim,
                             const E* scale,  // [d] of embedding_scales
                             int64_t num_points,
                             T* weight,        // [N, d+1] out
                             int32_t* cell,    // [N, d+1] out
                             uint8_t* rank) {  // [N, d+1] out
  const int64_t i = item_of_thread();
  if (i >= num_points) return;
  E feature[DimCapacity<Dim>::value];
  features.template read<E>(i, dim, feature);
  Simplex<E, DimCapacity<Dim>::value> simplex;
  embed_point<E>(dim, scale, feature, simplex);
  const int64_t first = i * (dim + 1);
  for (int k = 0; k <= dim; ++k) {
    weight[first + k] = static_cast<T>(simplex.weight[k]);
    cell[first + k] = static_cast<int32_t>(simplex.cell[k]);
    rank[first + k] = static_cast<uint8_t>(simplex.rank[k]);
  }
}

}  // namespace

template <typename T, typename E>
void embed_points(DeviceMemory& memory, const CudaLayout& layout, const Features<T>& features,
                  T* weight, int32_t* cell, uint8_t* rank) {
  const int dim = features.dim();
  std::vector<int64_t> extent(layout.grid().extent.rbegin(), layout.grid().extent.rend());
  extent.resize(features.sigma_position.size());
  std::vector<T> sigma = features.sigma_position;
  sigma.insert(sigma.end(), features.sigma_value.begin(), features.sigma_value.end());
  std::vector<E> scale(static_cast<std::size_t>(dim));
  embedding_scales(dim, scale.data());
  const Buffer<int64_t> device_extent = upload(memory, extent);
  const Buffer<T> device_sigma = upload(memory, sigma);
  const Buffer<E> device_scale = upload(memory, scale);
  const PointFeatures<T> given{static_cast<int>(extent.size()),
                               device_extent.data(),
                               device_sigma.data(),
                               features.values.data,
                               features.values.channel_stride,
                               features.values.node_stride};
  const int64_t num_points = layout.num_nodes();
  const auto run = [&](auto d) {
    launch("embed_kernel", embed_kernel<T, E, decltype(d)>, one_each(num_points), memory.stream(),
           given, d, device_scale.data(), num_points, weight, cell, rank);
  };
  // The dimensions of images and volumes have kernels that keep a point in registers.
  switch (dim) {
    case 2: return run(std::integral_constant<int, 2>{});
    case 3: return run(std::integral_constant<int, 3>{});
    case 5: return run(std::integral_constant<int, 5>{});
    default: return run(dim);
  }
}

#define DF_INSTANTIATE(T, E)                                                                 \
  template void embed_points<T, E>(DeviceMemory&, const CudaLayout&, const Features<T>&, T*, \
                                   int32_t*, uint8_t*);
DF_INSTANTIATE(float, float)
DF_INSTANTIATE(float, double)
DF_INSTANTIATE(double, double)

}  // namespace densefield::cuda
