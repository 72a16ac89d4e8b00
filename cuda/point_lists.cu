#include <limits>

#include "densefield/error.h"
#include "launch.cuh"
#include "point_lists.cuh"
#include "scan.cuh"

namespace densefield::cuda {
namespace {

// Entries of a segment. Half of the vertices of a photograph have fewer; a flat region can have
// one with all points, which would otherwise be one thread's work.
constexpr uint32_t kSegment = 64;

template <typename T>
__global__ void copy_entries_kernel(const int32_t* order,    // [entries]
                                    const T* corner_weight,  // [N, corners]
                                    int64_t num_entries, int corners,
                                    int32_t* point,  // [entries] out
                                    T* weight) {     // [entries] out
  const int64_t e = item_of_thread();
  if (e >= num_entries) return;
  point[e] = order[e] / corners;
  weight[e] = corner_weight[order[e]];
}

__global__ void count_segments_kernel(const uint32_t* begin,  // [M + 1]
                                      int64_t num_vertices,
                                      uint32_t* count) {  // [M + 1] out, the last one 0
  const int64_t v = item_of_thread();
  if (v > num_vertices) return;
  count[v] = v < num_vertices ? (begin[v + 1] - begin[v] + kSegment - 1) / kSegment : 0;
}

__global__ void place_segments_kernel(const uint32_t* begin,         // [M + 1]
                                      const uint32_t* vertex_begin,  // [M + 1]
                                      int64_t num_vertices,
                                      uint32_t* segment_begin) {  // [segments + 1] out
  const int64_t v = item_of_thread();
  if (v > num_vertices) return;
  if (v == num_vertices) {
    segment_begin[vertex_begin[v]] = begin[v];
    return;
  }
  for (uint32_t s = vertex_begin[v]; s < vertex_begin[v + 1]; ++s)
    segment_begin[s] = begin[v] + (s - vertex_begin[v]) * kSegment;
}

}  // namespace

void check_corner_count(int64_t num_points, int corners) {
  if (num_points >= std::numeric_limits<int32_t>::max() / corners)
    fail_value(
        "the points would have more than 2^31 corners on the device; split the points, or use "
        "device='cpu'");
}

template <typename T>
void list_points(DeviceMemory& memory, const int32_t* order, const uint32_t* begin,
                 CudaLattice<T>& lattice) {
  const int64_t num_entries = lattice.num_points() * lattice.corners;
  const int64_t num_vertices = lattice.vertex_count;
  PointLists<T>& lists = lattice.lists;
  lists.point = Buffer<int32_t>(memory, num_entries);
  lists.weight = Buffer<T>(memory, num_entries);
  launch("copy_entries_kernel", copy_entries_kernel<T>, one_each(num_entries), memory.stream(),
         order, lattice.weight.data(), num_entries, lattice.corners, lists.point.data(),
         lists.weight.data());
  lists.vertex_begin = Buffer<uint32_t>(memory, num_vertices + 1);
  launch("count_segments_kernel", count_segments_kernel, one_each(num_vertices + 1),
         memory.stream(), begin, num_vertices, lists.vertex_begin.data());
  exclusive_scan(memory, num_vertices + 1, lists.vertex_begin.data());
  uint32_t num_segments = 0;
  download(memory, lists.vertex_begin.data() + num_vertices, 1, &num_segments);
  lists.num_segments = num_segments;
  lists.segment_begin = Buffer<uint32_t>(memory, lists.num_segments + 1);
  launch("place_segments_kernel", place_segments_kernel, one_each(num_vertices + 1),
         memory.stream(), begin, lists.vertex_begin.data(), num_vertices,
         lists.segment_begin.data());
}

template void list_points(DeviceMemory&, const int32_t*, const uint32_t*, CudaLattice<float>&);
template void list_points(DeviceMemory&, const int32_t*, const uint32_t*, CudaLattice<double>&);

}  // namespace densefield::cuda
