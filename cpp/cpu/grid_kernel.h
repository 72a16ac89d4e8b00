// The spatial Gaussian on a grid, without a permutohedral lattice: core/grid_kernel.h.
#pragma once

#include <memory>
#include <vector>

#include "../core/grid_kernel.h"
#include "lattice_tables.h"

namespace densefield::cpu {

// The tables of the kernel with these standard deviations, in the order of the grid's axes,
// slowest first. A node outside the grid's reach does not exist: nothing lies there.
template <typename T>
std::shared_ptr<const CpuLattice<T>> build_grid_kernel(std::shared_ptr<const CpuLayout> layout,
                                                       const std::vector<T>& sigma);

}  // namespace densefield::cpu
