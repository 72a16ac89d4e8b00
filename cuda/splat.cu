// Splat, maths §4 step 5: u = S^T v, gathered vertex by vertex, so that no sum depends on the
// order of threads. Limited by reading every point's row d+1 times, mostly from the L2 cache.
#include "launch.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
__global__ void sum_segments_kernel(const T* rows,                  // [N, C]
                                    const T* pre,                   // [N] or nullptr
                                    const uint32_t* segment_begin,  // [segments + 1]
                                    const int32_t* point,           // [entries]
                                    const T* weight,                // [entries]
                                    int64_t num_segments, int64_t num_channels,
                                    T* sums) {  // [segments, C] out
  const int64_t s = row_of_group();
  if (s >= num_segments) return;
  const uint32_t begin = segment_begin[s], end = segment_begin[s + 1];
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x) {
    T sum = T(0);
    for (uint32_t e = begin; e < end; ++e) {
      const int64_t i = point[e];
      const T value =
          pre != nullptr ? pre[i] * rows[i * num_channels + c] : rows[i * num_channels + c];
      sum += weight[e] * value;
    }
    sums[s * num_channels + c] = sum;
  }
}

template <typename T>
__global__ void join_segments_kernel(const T* sums,                 // [segments, C]
                                     const uint32_t* vertex_begin,  // [M + 1]
                                     int64_t num_vertices, int64_t num_channels,
                                     T* values) {  // [M, C] out
  const int64_t v = row_of_group();
  if (v >= num_vertices) return;
  const uint32_t begin = vertex_begin[v], end = vertex_begin[v + 1];
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x) {
    T sum = T(0);
    for (uint32_t s = begin; s < end; ++s) sum += sums[s * num_channels + c];
    values[v * num_channels + c] = sum;
  }
}

}  // namespace

template <typename T>
void splat(DeviceMemory& memory, const CudaLattice<T>& lattice, const T* rows, const T* pre,
           CudaVertexRows<T>& to) {
  const PointLists<T>& lists = lattice.lists;
  if (to.num_channels == 0) return;
  launch("sum_segments_kernel", sum_segments_kernel<T>,
         group_each(lists.num_segments, to.num_channels), memory.stream(), rows, pre,
         lists.segment_begin.data(), lists.point.data(), lists.weight.data(), lists.num_segments,
         to.num_channels, to.segments.data());
  launch("join_segments_kernel", join_segments_kernel<T>,
         group_each(lattice.vertex_count, to.num_channels), memory.stream(), to.segments.data(),
         lists.vertex_begin.data(), lattice.vertex_count, to.num_channels, to.values.data());
}

template void splat(DeviceMemory&, const CudaLattice<float>&, const float*, const float*,
                    CudaVertexRows<float>&);
template void splat(DeviceMemory&, const CudaLattice<double>&, const double*, const double*,
                    CudaVertexRows<double>&);

}  // namespace densefield::cuda
