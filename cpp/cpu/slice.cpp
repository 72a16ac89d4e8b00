// Slice, maths §4 step 7: out = scale * S u; and the kernel's diagonal.
#include <cstdlib>

#include "../core/diagonal.h"
#include "densefield/threads.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {

template <typename T>
void slice(const CpuLattice<T>& lattice, const CpuVertexRows<T>& from, const T* post, T scale,
           T* rows) {
  const int corners = lattice.num_corners();
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const Block& block = lattice.layout->blocks()[static_cast<size_t>(index)];
    const int64_t first = block.begin * corners;
    simd::kernels<T>().slice(
        {block.end - block.begin, corners, lattice.weight.data() + first,
         lattice.corner.data() + first},
        from.slots.data() + lattice.slot_begin[static_cast<size_t>(index)] * from.stride,
        post != nullptr ? post + block.begin : nullptr, scale, rows + block.begin * from.stride,
        from.stride);
  });
}

namespace {

// What the filter on the nodes carries between two corners of a grid cell.
template <typename T>
T cell_coupling(const CpuLattice<T>& lattice, int k, int l) {
  T coupling = T(1);
  for (size_t a = lattice.grid_axes.size(); a-- > 0;) {
    const GridAxis<T>& axis = lattice.grid_axes[a];
    coupling *=
        axis.tap[static_cast<size_t>(std::abs(k % axis.num_corners() - l % axis.num_corners()))];
    k /= axis.num_corners();
    l /= axis.num_corners();
  }
  return coupling;
}

template <typename T>
T cell_diagonal(const CpuLattice<T>& lattice, const T* weight) {
  T sum = T(0);
  for (int k = 0; k < lattice.num_corners(); ++k)
    for (int l = 0; l < lattice.num_corners(); ++l)
      sum += weight[k] * weight[l] * cell_coupling(lattice, k, l);
  return sum;
}

}  // namespace

template <typename T>
void diagonal(const CpuLattice<T>& lattice, T* out) {
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const Block& block = lattice.layout->blocks()[static_cast<size_t>(index)];
    for (int64_t i = block.begin; i < block.end; ++i) {
      const T* weight = lattice.weight.data() + i * lattice.num_corners();
      out[i] = lattice.grid_axes.empty() ? lattice_diagonal(lattice.dimension, weight)
                                         : cell_diagonal(lattice, weight);
    }
  });
}

template void slice(const CpuLattice<float>&, const CpuVertexRows<float>&, const float*, float,
                    float*);
template void slice(const CpuLattice<double>&, const CpuVertexRows<double>&, const double*, double,
                    double*);
template void diagonal(const CpuLattice<float>&, float*);
template void diagonal(const CpuLattice<double>&, double*);

}  // namespace densefield::cpu
