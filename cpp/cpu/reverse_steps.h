// The steps of the reverse pass on the CPU. Contracts: backend.h.
#pragma once

#include "densefield/backend.h"
#include "lattice_tables.h"
#include "simd/kernels.h"
#include "vertex_rows.h"

namespace densefield::cpu {

// reverse_pass.cpp
template <typename T>
void mean_field_reverse_pass(const MeanFieldReversePass<T>&);

// feature_gradient.cpp
template <typename T>
void weight_gradient(const CpuLattice<T>&, const T* rows, const CpuVertexRows<T>& vertices, T scale,
                     T* grad_weight);
template <typename T>
void scale_gradient(const ScaleGradient<T>&);
template <typename T>
void feature_gradient(const CpuLattice<T>&, const Features<T>&, const T* grad_weight,
                      const FeatureGradient<T>&);

// grid_gradient.cpp
template <typename T>
void grid_sigma_gradient(const CpuLattice<T>&, CpuVertexRows<T>& values,
                         const CpuVertexRows<T>& gradients, const CompatibilityTable<T>*,
                         int64_t num_channels, double scale, double* grad_sigma);
template <typename T>
void diagonal_gradient(const CpuLattice<T>&, const T* grad, T* grad_weight, double* grad_sigma);

}  // namespace densefield::cpu
