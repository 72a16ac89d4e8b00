// The steps of the backend; each file has one or two. Pointers are on the device, rows without
// padding.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "densefield/backend.h"
#include "lattice_tables.cuh"

namespace densefield::cuda {

// build.cu. O(N d^2) and sorting N (d+1) keys; waits for the device three times.
template <typename T>
std::shared_ptr<const CudaLattice<T>> build_lattice(DeviceMemory&,
                                                    std::shared_ptr<const CudaLayout>,
                                                    const Features<T>&);
// grid_kernel.cu
template <typename T>
std::shared_ptr<const CudaLattice<T>> build_grid_kernel(DeviceMemory&,
                                                        std::shared_ptr<const CudaLayout>,
                                                        const std::vector<T>& sigma);
// values = filter of values along all axes, or its derivative by the sigma of axis `derived`, if
// that is not -1; both [M, C]. O(M taps).
template <typename T>
void filter_nodes(DeviceMemory&, const CudaLattice<T>&, int64_t num_channels, int derived,
                  Buffer<T>& values, Buffer<T>& spare);

// splat.cu: values = S^T diag(pre) rows; pre may be nullptr.
template <typename T>
void splat(DeviceMemory&, const CudaLattice<T>&,
           const T* rows,  // [N, C]
           const T* pre,   // [N]
           CudaVertexRows<T>& to);

// blur.cu: values = B values or B^T values.
template <typename T>
void blur(DeviceMemory&, const CudaLattice<T>&, bool reverse, CudaVertexRows<T>& rows);

// slice.cu: rows = scale * diag(post) S values; post may be nullptr.
template <typename T>
void slice(DeviceMemory&, const CudaLattice<T>&, const CudaVertexRows<T>& from,
           const T* post,  // [N]
           T scale,
           T* rows);  // [N, C] out
template <typename T>
void diagonal(DeviceMemory&, const CudaLattice<T>&,
              T* out);  // [N]

// mean_field_pass.cu
template <typename T>
T mean_field_pass(DeviceMemory&, const MeanFieldPass<T>&);

// binary_pass.cu
template <typename T>
void binary_score(DeviceMemory&, NodeView<const T> unary,
                  T* score);  // [N]
template <typename T>
void binary_pass(DeviceMemory&, const BinaryPass<T>&);

// reverse_pass.cu, feature_gradient.cu and grid_gradient.cu: as in backend.h. Sums that it asks
// for on the host wait for the device.
template <typename T>
void mean_field_reverse_pass(DeviceMemory&, const MeanFieldReversePass<T>&);
template <typename T>
void weight_gradient(DeviceMemory&, const CudaLattice<T>&,
                     const T* rows,  // [N, C]
                     const CudaVertexRows<T>& vertices, int64_t num_channels, T scale,
                     T* grad_weight);  // [N, corners] added to
template <typename T>
void scale_gradient(DeviceMemory&, const ScaleGradient<T>&);
template <typename T>
void feature_gradient(DeviceMemory&, const CudaLattice<T>&, const Features<T>&,
                      const T* grad_weight,  // [N, d+1]
                      const FeatureGradient<T>& out);
template <typename T>
std::unique_ptr<UpdateScratch<T>> make_reverse_scratch(DeviceMemory&, int64_t num_nodes,
                                                       int64_t num_labels,
                                                       std::span<const ReverseKernel<T>>);
// What grid_sigma_gradient works in; as large as any of the kernels asks for.
template <typename T>
struct GridProducts {
  Buffer<T> filtered;   // [M, C]
  Buffer<T> spare;      // [M, C]
  Buffer<double> part;  // [blocks of the vertices]
};
template <typename T>
GridProducts<T> make_grid_products(DeviceMemory&, int64_t num_vertices, int64_t num_channels);
template <typename T>
void grid_sigma_gradient(DeviceMemory&, const CudaLattice<T>&, const CudaVertexRows<T>& values,
                         const CudaVertexRows<T>& gradients, const CompatibilityTable<T>*,
                         int64_t num_channels, double scale, GridProducts<T>&, double* grad_sigma);
template <typename T>
void diagonal_gradient(DeviceMemory&, const CudaLattice<T>&,
                       const T* grad,   // [N]
                       T* grad_weight,  // [N, d+1] added to
                       double* grad_sigma);

// elements.cu
template <typename T>
void normalizer(DeviceMemory&,
                const T* rows,  // [count, stride]
                int64_t count, int64_t stride, bool square_root,
                T* out);  // [count]
template <typename T>
void multiply(DeviceMemory&, const T* a, const T* b, int64_t count, T* out);  // all [count]
template <typename T>
void add(DeviceMemory&, const T* from, int64_t count, T* to);  // both [count]
template <typename T>
void fill(DeviceMemory&, T value, int64_t count, T* out);  // [count]
template <typename T>
void copy(DeviceMemory&, const T* from, int64_t count, T* to);  // both [count]
// From the host among the arguments of kernels, 2 KB in each: for small tables. Unlike a copy it
// can be recorded: `from` is read before the function returns, and never again.
template <typename T>
void upload_values(const DeviceMemory&, const T* from, int64_t count, T* to);

// energy.cu. Sums in double, in an order that depends on N alone; they wait for the device.
template <typename T>
PairwiseEnergy pairwise_energy(DeviceMemory&, int64_t num_nodes,
                               const T* marginals,  // [N, L]
                               const T* messages,   // [N, L]
                               const T* self,       // [N]
                               const CompatibilityTable<T>&, T offset, int64_t num_labels);
template <typename T>
double unary_energy(DeviceMemory&, int64_t num_nodes,
                    const T* marginals,  // [N, L]
                    const T* unary,      // [N, L]
                    int64_t num_labels);
template <typename T>
double negative_entropy(DeviceMemory&, int64_t num_nodes,
                        const T* marginals,  // [N, L]
                        int64_t num_labels);

}  // namespace densefield::cuda
