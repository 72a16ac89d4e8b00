// The steps of the lattice filter and of mean field on the CPU. Contracts: backend.h.
#pragma once

#include "densefield/backend.h"
#include "lattice_tables.h"
#include "vertex_rows.h"

namespace densefield::cpu {

// Elements of a row that is padded to whole vectors.
template <typename T>
int64_t padded_stride(int64_t num_channels);

// rows.cpp. Place c of a row is channel simd::channel_at(order, c).
template <typename T>
void load_nodes(const CpuLayout&, NodeView<const T> from, T padding, T* rows,
                const int32_t* order = nullptr);
// The same for neighbours of one run.
template <typename T>
void load_run(NodeView<const T> from, const Run&, T padding, T* rows, int64_t stride,
              const int32_t* order = nullptr);
template <typename T>
void store_nodes(const CpuLayout&, const T* rows, NodeView<T> to);
// One block of store_nodes, from the block's own rows.
template <typename T>
void store_block(const CpuLayout&, const Block&, const T* rows, NodeView<T> to,
                 const int32_t* order = nullptr);

// splat.cpp: the block's slots, then the sum of each vertex's slots in its home; spreading
// copies it from there to all slots.
template <typename T>
void splat(const CpuLattice<T>&, const T* rows, const T* pre, CpuVertexRows<T>&);
template <typename T>
void sum_slots(const CpuLattice<T>&, CpuVertexRows<T>&);
template <typename T>
void spread_slots(const CpuLattice<T>&, CpuVertexRows<T>&);

// blur.cpp: from homes to all slots.
template <typename T>
void blur(const CpuLattice<T>&, bool reverse, CpuVertexRows<T>&);

// slice.cpp
template <typename T>
void slice(const CpuLattice<T>&, const CpuVertexRows<T>&, const T* post, T scale, T* rows);
template <typename T>
void diagonal(const CpuLattice<T>&, T* out);

// grid_filter.cpp: the same steps for a spatial kernel. Splat fills the blocks' boxes, the
// filter goes from there to the nodes and works in the boxes' memory, and slice reads the nodes.
template <typename T>
simd::GridBlock<T> grid_block(const CpuLattice<T>&, int64_t block);
template <typename T>
void splat_grid(const CpuLattice<T>&, const T* rows, const T* pre, CpuVertexRows<T>&);
// Along derived_axis, the filter's derivative by sigma takes the filter's place, and the boxes
// stay.
constexpr size_t kNoAxis = SIZE_MAX;
template <typename T>
void filter_grid(const CpuLattice<T>&, CpuVertexRows<T>&, size_t derived_axis = kNoAxis);
template <typename T>
void slice_grid(const CpuLattice<T>&, const CpuVertexRows<T>&, const T* post, T scale, T* rows);
template <typename T>
void diagonal_grid(const CpuLattice<T>&, T* out);

// mean_field_pass.cpp
template <typename T>
T mean_field_pass(const MeanFieldPass<T>&);

// label_pruner.cpp
template <typename T>
const LabelPruner<T>& label_pruner();

// binary_pass.cpp
template <typename T>
void binary_score(const CpuLayout&, NodeView<const T> unary, T* score);
template <typename T>
void binary_pass(const BinaryPass<T>&);

// energy.cpp
template <typename T>
PairwiseEnergy pairwise_energy(const CpuLayout&, const T* marginals, const T* messages,
                               const T* self, const CompatibilityTable<T>&, T offset,
                               int64_t num_labels);
template <typename T>
double unary_energy(const CpuLayout&, const T* marginals, const T* unary, int64_t num_labels);
template <typename T>
double negative_entropy(const CpuLayout&, const T* marginals, int64_t num_labels);

}  // namespace densefield::cpu
