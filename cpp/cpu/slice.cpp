// Slice, maths §4 step 7: out = scale * S u; and the kernel's diagonal.
#include "../core/diagonal.h"
#include "densefield/threads.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {

template <typename T>
void slice(const CpuLattice<T>& lattice, const CpuVertexRows<T>& from, const T* post, T scale,
           T* rows) {
  if (lattice.grid) return slice_grid(lattice, from, post, scale, rows);
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

template <typename T>
void diagonal(const CpuLattice<T>& lattice, T* out) {
  if (lattice.grid) return diagonal_grid(lattice, out);
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const Block& block = lattice.layout->blocks()[static_cast<size_t>(index)];
    for (int64_t i = block.begin; i < block.end; ++i)
      out[i] =
          lattice_diagonal(lattice.dimension, lattice.weight.data() + i * lattice.num_corners());
  });
}

template void slice(const CpuLattice<float>&, const CpuVertexRows<float>&, const float*, float,
                    float*);
template void slice(const CpuLattice<double>&, const CpuVertexRows<double>&, const double*, double,
                    double*);
template void diagonal(const CpuLattice<float>&, float*);
template void diagonal(const CpuLattice<double>&, double*);

}  // namespace densefield::cpu
