// From the corners of the points to the points of the vertices.
#pragma once

#include "lattice_tables.cuh"
#include "sort.cuh"

namespace densefield::cuda {

// Throws Error (value) where 32 bits cannot number the corners of all points.
void check_corner_count(int64_t num_points, int corners);

// Fills lattice.lists from weights and from corners that are sorted by their vertex: entry e is
// corner order[e], begin[v] the first entry of vertex v.
template <typename T>
void list_points(DeviceMemory& memory,
                 const int32_t* order,   // [N corners]
                 const uint32_t* begin,  // [M + 1]
                 CudaLattice<T>& lattice);

}  // namespace densefield::cuda
