#pragma once

#include <memory>

#include "lattice_tables.h"

namespace densefield::cpu {

// Throws as Backend::build_lattice does. O(N d^2) and, in the vertices, O(M d).
template <typename T>
std::shared_ptr<const CpuLattice<T>> build_lattice(std::shared_ptr<const CpuLayout> layout,
                                                   const Features<T>& features);

}  // namespace densefield::cpu
