#pragma once

#include <memory>

#include "lattice_tables.h"

namespace densefield::cpu {

// Throws as Backend::build_lattice does. O(N d^2) and, in the vertices, O(M d).
template <typename T>
std::shared_ptr<const CpuLattice<T>> build_lattice(std::shared_ptr<const CpuLayout> layout,
                                                   const Features<T>& features);

// Throws Error (value) if 32-bit numbers would not do.
void check_vertex_count(int64_t count);

}  // namespace densefield::cpu
