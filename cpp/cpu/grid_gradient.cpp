// Gradients of the spatial kernel on a grid by its standard deviations, and of the diagonals
// of both kinds of kernel.
#include <vector>

#include "../core/diagonal.h"
#include "densefield/threads.h"
#include "reverse_steps.h"
#include "simd/reverse_kernels.h"
#include "steps.h"

namespace densefield::cpu {
namespace {

// The sum over the nodes of a block's box of gradients . A values. The gradients are those of
// the block's own points: over all blocks, the sum over the nodes.
template <typename T>
class BoxProduct {
 public:
  BoxProduct(const CpuLattice<T>& lattice, const CpuVertexRows<T>& values,
             const CpuVertexRows<T>& gradients, const CompatibilityTable<T>* table,
             int64_t num_channels)
      : lattice_(lattice),
        values_(values),
        gradients_(gradients),
        form_(table != nullptr ? table->form : CompatibilityForm::scalar),
        entries_(table != nullptr ? table->values.data() : nullptr),
        num_channels_(num_channels) {}

  double run(int64_t index, T* scratch) const {
    const auto& axes = lattice_.grid->axes;
    const size_t last = axes.size() - 1;
    std::array<size_t, kMaxGridKernelAxes> interval{};
    int64_t rest = index, num_lines = 1;
    for (size_t a = axes.size(); a-- > 0; rest /= axes[a].num_intervals()) {
      interval[a] = static_cast<size_t>(rest % axes[a].num_intervals());
      if (a < last) num_lines *= axes[a].high[interval[a]] - axes[a].low[interval[a]];
    }
    const int64_t low = axes[last].low[interval[last]];
    const int64_t length = axes[last].high[interval[last]] - low;
    int64_t slot = lattice_.slot_begin[static_cast<size_t>(index)];
    double sum = 0;
    for (int64_t line = 0; line < num_lines; ++line, slot += length) {
      int64_t node = low, pitch = axes[last].num_nodes, place = line;
      for (size_t a = last; a-- > 0; pitch *= axes[a].num_nodes) {
        const int64_t extent = axes[a].high[interval[a]] - axes[a].low[interval[a]];
        node += (axes[a].low[interval[a]] + place % extent) * pitch;
        place /= extent;
      }
      sum +=
          simd::reverse_kernels<T>().product(length, values_.nodes.data() + node * values_.stride,
                                             gradients_.slots.data() + slot * values_.stride, form_,
                                             entries_, num_channels_, scratch, values_.stride);
    }
    return sum;
  }

 private:
  const CpuLattice<T>& lattice_;
  const CpuVertexRows<T>& values_;
  const CpuVertexRows<T>& gradients_;
  const CompatibilityForm form_;
  const T* entries_;
  const int64_t num_channels_;
};

}  // namespace

// K = B G B^T with G a product over the axes, whose derivative replaces one factor by that of
// its taps.
template <typename T>
void grid_sigma_gradient(const CpuLattice<T>& lattice, CpuVertexRows<T>& values,
                         const CpuVertexRows<T>& gradients, const CompatibilityTable<T>* table,
                         int64_t num_channels, double scale, double* grad_sigma) {
  const int64_t num_blocks = lattice.layout->num_blocks();
  std::vector<double> sums(static_cast<size_t>(num_blocks));
  const int num_workers = static_cast<int>(std::min<int64_t>(num_threads(), num_blocks));
  std::vector<Buffer<T>> scratch;
  for (int worker = 0; worker < num_workers; ++worker)
    scratch.emplace_back(host_memory(), values.stride);
  for (size_t a = 0; a < lattice.grid->axes.size(); ++a) {
    filter_grid(lattice, values, a);
    const BoxProduct<T> body(lattice, values, gradients, table, num_channels);
    parallel_for(num_blocks, num_workers, [&](int64_t index, int worker) {
      sums[static_cast<size_t>(index)] =
          body.run(index, scratch[static_cast<size_t>(worker)].data());
    });
    for (double sum : sums) grad_sigma[a] += scale * sum;
  }
}

namespace {

// What a filter with these taps carries from a coordinate's corners to themselves and to each
// other, as diagonal_grid has it.
template <typename T>
T axis_diagonal(const GridAxis<T>& axis, const std::vector<T>& tap, int64_t coordinate) {
  const T* weight = axis.corner_weight.data() + coordinate % axis.step * 2;
  return node_diagonal(axis.step, tap[0], tap.size() > 1 ? tap[1] : T(0), weight[0], weight[1]);
}

// grad_sigma[a] += sum over a block's points of grad dK_ii / dsigma_a.
template <typename T>
void add_grid_diagonal(const CpuLattice<T>& lattice, const Block& block, const T* grad,
                       double* grad_sigma) {
  const auto& axes = lattice.grid->axes;
  const auto& extent = lattice.layout->grid().extent;
  int64_t point = block.begin;
  for (int64_t r = block.run_begin; r < block.run_end; ++r) {
    const Run& run = lattice.layout->run(r);
    for (int64_t node = run.node; node < run.node + run.length; ++node, ++point) {
      std::array<T, kMaxGridKernelAxes> value{}, derivative{};
      int64_t rest = node;
      for (size_t a = axes.size(); a-- > 0; rest /= extent[a]) {
        value[a] = axis_diagonal(axes[a], axes[a].tap, rest % extent[a]);
        derivative[a] = axis_diagonal(axes[a], axes[a].tap_grad, rest % extent[a]);
      }
      for (size_t a = 0; a < axes.size(); ++a) {
        T product = grad[point];
        for (size_t b = 0; b < axes.size(); ++b) product *= b == a ? derivative[b] : value[b];
        grad_sigma[a] += double(product);
      }
    }
  }
}

}  // namespace

template <typename T>
void diagonal_gradient(const CpuLattice<T>& lattice, const T* grad, T* grad_weight,
                       double* grad_sigma) {
  const auto& blocks = lattice.layout->blocks();
  const size_t axes = lattice.grid ? lattice.grid->axes.size() : 0;
  std::vector<double> sums(blocks.size() * axes, 0.0);
  const int corners = lattice.num_corners();
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const auto place = static_cast<size_t>(index);
    const Block& block = blocks[place];
    if (lattice.grid) return add_grid_diagonal(lattice, block, grad, sums.data() + place * axes);
    for (int64_t i = block.begin; i < block.end; ++i)
      for (int k = 0; k < corners; ++k)
        grad_weight[i * corners + k] +=
            grad[i] *
            lattice_diagonal_gradient(lattice.dimension, lattice.weight.data() + i * corners, k);
  });
  for (size_t i = 0; i < sums.size(); ++i) grad_sigma[i % axes] += sums[i];
}

#define DF_INSTANTIATE(T)                                                                  \
  template void grid_sigma_gradient(const CpuLattice<T>&, CpuVertexRows<T>&,               \
                                    const CpuVertexRows<T>&, const CompatibilityTable<T>*, \
                                    int64_t, double, double*);                             \
  template void diagonal_gradient(const CpuLattice<T>&, const T*, T*, double*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
