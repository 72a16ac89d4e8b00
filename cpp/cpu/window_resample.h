// Between nodes and cells: the downsampling of [TC18], maths §5, axis by axis.
#pragma once

#include <vector>

#include "window_geometry.h"

namespace densefield::cpu {

// cells = means over the nodes of each cell that lie inside the grid. `scale` [N] multiplies
// the nodes before; nullptr: 1.
template <typename T>
void pool(const CellGrid&, const T* nodes, const T* scale, int64_t stride, T* cells);
// The transpose of `pool` without the scale.
template <typename T>
void pool_transpose(const CellGrid&, const T* cells, int64_t stride, T* nodes);

// Bilinear interpolation between the centres of cells along the axes z and y:
// [fine z, fine y, coarse x] from [coarse z, coarse y, coarse x].
template <typename T>
void upsample_rows(const CellGrid&, const T* cells, int64_t stride, T* rows);
// The rest, along x: between which cells the nodes of a row lie,
template <typename T>
std::vector<CellPair<T>> cells_along_row(const CellGrid&);
// and all nodes from the rows of `upsample_rows`, times `post` [N]; nullptr: 1.
template <typename T>
void upsample_along_rows(const CellGrid&, const T* rows, const T* post, int64_t stride, T* nodes);
// The transpose of the whole interpolation; `scale` [N] multiplies the nodes before.
template <typename T>
void upsample_transpose(const CellGrid&, const T* nodes, const T* scale, int64_t stride, T* cells);

}  // namespace densefield::cpu
