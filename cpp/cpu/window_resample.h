// Between nodes and cells: the downsampling of [TC18], maths §5, axis by axis.
#pragma once

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
// The rest, along x, for the nodes [begin, end) of a row: to[0] is node `begin`.
template <typename T>
void upsample_along_row(const CellGrid&, const T* row, int64_t begin, int64_t end, int64_t stride,
                        T* to);
// The transpose of the whole interpolation; `scale` [N] multiplies the nodes before.
template <typename T>
void upsample_transpose(const CellGrid&, const T* nodes, const T* scale, int64_t stride, T* cells);

}  // namespace densefield::cpu
