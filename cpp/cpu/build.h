#pragma once

#include <memory>

#include "lattice_tables.h"

namespace densefield::cpu {

// Throws as Backend::build_lattice does. O(N d^2) and, in the vertices, O(M d).
template <typename T>
std::shared_ptr<const CpuLattice<T>> build_lattice(std::shared_ptr<const CpuLayout> layout,
                                                   const Features<T>& features);

// Fills slot_start and slots_of_vertex from vertex_of_slot.
template <typename T>
void list_slots(CpuLattice<T>& lattice);

// Throws Error (value) if 32-bit numbers would not do.
void check_vertex_count(int64_t num_vertices, int64_t num_slots);

}  // namespace densefield::cpu
