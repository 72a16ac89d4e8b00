// dL/dK of a message, maths §5 "Gradients", between nodes and between cells of several nodes.
#include <algorithm>

#include "../cpp/core/normalization.h"
#include "../cpp/core/window.h"
#include "reduce.cuh"
#include "reverse_steps.cuh"
#include "steps.cuh"
#include "window_gradient.cuh"

namespace densefield::cuda {
namespace {

// to[i] += factor a_i . b_i
template <typename T>
__global__ void add_dot_products_kernel(const T* a,  // [N, C]
                                        const T* b,  // [N, C]
                                        int64_t num_nodes, int64_t num_channels, T factor,
                                        T* to) {  // [N] added to
  const int64_t i = row_of_group();
  if (i >= num_nodes) return;
  T sum = T(0);
  for (int64_t c = threadIdx.x; c < num_channels; c += blockDim.x)
    sum += a[i * num_channels + c] * b[i * num_channels + c];
  sum = sum_of_group(sum, mask_of_group());
  if (threadIdx.x == 0) to[i] += factor * sum;
}

// From the gradient by self = diagonal pre post at a node to those by the three.
template <typename T>
__global__ void self_gradient_kernel(const T* diagonal,  // [N]
                                     const T* pre,       // [N]
                                     const T* post,      // [N]
                                     int64_t num_nodes,
                                     T* grad_self,    // [N] in: by self; out: by diagonal
                                     T* grad_pre,     // [N] added to
                                     T* grad_post) {  // [N] added to
  const int64_t i = item_of_thread();
  if (i >= num_nodes) return;
  const SelfGradient<T> by = self_gradient(T(1), grad_self[i], diagonal[i], pre[i], post[i]);
  grad_self[i] = by.diagonal;
  grad_pre[i] += by.pre;
  grad_post[i] += by.post;
}

// A cell gathers from the nodes of the cells around whose diagonals have a part of its weights.
template <typename T>
__global__ void diagonal_weights_kernel(CellGrid grid,
                                        const WindowTap* taps,   // [num_taps]
                                        const T* grad_diagonal,  // [N]
                                        int64_t num_taps, int64_t num_cells,
                                        T* weights) {  // [num_taps, cells] added to
  const int64_t cell = item_of_thread();
  if (cell >= num_cells) return;
  const int64_t to[3] = {cell / (grid.coarse[1] * grid.coarse[2]),
                         cell / grid.coarse[2] % grid.coarse[1], cell % grid.coarse[2]};
  for (int64_t t = blockIdx.y; t < num_taps; t += gridDim.y) {
    const int64_t step[3] = {taps[t].dz, taps[t].dy, taps[t].dx};
    CellNodes from[3];
    bool is_around = true;
    for (std::size_t a = 0; a < 3; ++a) {
      const int64_t own = to[a] + step[a];
      is_around = is_around && step[a] >= -1 && step[a] <= 1 && own >= 0 && own < grid.coarse[a];
      from[a] = nodes_of_cell(own, grid.phase[a], grid.cell_size[a], grid.fine[a]);
    }
    if (!is_around) continue;
    T sum = T(0);
    for (int64_t z = from[0].first; z < from[0].last; ++z)
      for (int64_t y = from[1].first; y < from[1].last; ++y)
        for (int64_t x = from[2].first; x < from[2].last; ++x) {
          const int64_t node[3] = {z, y, x};
          const T grad = grad_diagonal[(z * grid.fine[1] + y) * grid.fine[2] + x];
          for_cells_around<T>(node, grid.fine.data(), grid.coarse.data(), grid.phase.data(),
                              grid.cell_size.data(),
                              [&](const int64_t* around, const int64_t*, T factor) {
                                if (around[0] == to[0] && around[1] == to[1] && around[2] == to[2])
                                  sum += factor * grad;
                              });
        }
    weights[t * num_cells + cell] += sum;
  }
}

template <typename T>
Buffer<T> zeros(DeviceMemory& memory, int64_t count) {
  Buffer<T> buffer(memory, count);
  clear(memory, buffer);
  return buffer;
}

template <typename T>
void add_dot_products(DeviceMemory& memory, const T* a, const T* b, int64_t num_nodes,
                      int64_t num_channels, T factor, Buffer<T>& to) {
  launch("add_dot_products_kernel", add_dot_products_kernel<T>, group_each(num_nodes, num_channels),
         memory.stream(), a, b, num_nodes, num_channels, factor, to.data());
}

// A message between cells is diag(post) U K D diag(pre) q: maths §5, "Options".
template <typename T>
void add_between_cells(DeviceMemory& memory, const CudaWindowTable<T>& table, const T* rows,
                       const T* gradients, int64_t num_channels, T factor,
                       CudaWindowGradient<T>& out) {
  const int64_t num_nodes = table.num_nodes();
  pool(memory, table.cells, rows, table.pre.data(), num_channels, out.means.data());
  upsample_transpose(memory, table.cells, gradients, table.post.data(), num_channels,
                     out.sums.data());
  add_products<T>(memory, table, out.sums.data(), out.means.data(), num_channels, factor, out);
  if (table.pre.is_empty()) return;

  pass_messages<T>(memory, table, out.sums.data(), num_channels, true, out.messages.data());
  pool_transpose<T>(memory, table.cells, out.messages.data(), nullptr, num_channels,
                    out.nodes.data());
  add_dot_products<T>(memory, out.nodes.data(), rows, num_nodes, num_channels, factor, out.pre);
  pass_messages<T>(memory, table, out.means.data(), num_channels, false, out.messages.data());
  upsample<T>(memory, table.cells, out.messages.data(), nullptr, num_channels, out.nodes.data());
  add_dot_products<T>(memory, out.nodes.data(), gradients, num_nodes, num_channels, factor,
                      out.post);
}

}  // namespace

template <typename T>
CudaWindowGradient<T>::CudaWindowGradient(DeviceMemory& memory, const CudaWindowTable<T>& table,
                                          int64_t num_channels, bool excludes_self)
    : shape(table.geometry),
      groups(upload(memory, shape.list)),
      weights(zeros<T>(memory, table.weights.size())),
      message_gradients(memory, table.num_nodes() * num_channels) {
  if (!table.cells.has_cells()) return;
  const int64_t num_nodes = table.num_nodes(), size = table.num_cells() * num_channels;
  means = Buffer<T>(memory, size);
  sums = Buffer<T>(memory, size);
  if (excludes_self) self = zeros<T>(memory, num_nodes);
  if (table.pre.is_empty()) return;
  pre = zeros<T>(memory, num_nodes);
  post = zeros<T>(memory, num_nodes);
  messages = Buffer<T>(memory, size);
  nodes = Buffer<T>(memory, num_nodes * num_channels);
}

template <typename T>
void add_window_gradient(DeviceMemory& memory, const CudaWindowTable<T>& table, const T* rows,
                         const T* grad_scores,
                         const CompatibilityTable<T>* transposed_compatibility,
                         int64_t num_channels, bool excludes_self, CudaWindowGradient<T>& out) {
  const int64_t num_nodes = table.num_nodes();
  if (num_nodes * num_channels == 0) return;
  // dL/dmessage = factor * gradients
  const T* gradients = grad_scores;
  const T factor = transposed_compatibility == nullptr ? T(1) : T(-1);
  if (transposed_compatibility != nullptr) {
    multiply_table(memory, transposed_compatibility->form, transposed_compatibility->values.data(),
                   grad_scores, num_nodes, num_channels, false, out.message_gradients.data());
    gradients = out.message_gradients.data();
  }
  if (table.cells.has_cells()) {
    add_between_cells(memory, table, rows, gradients, num_channels, factor, out);
    if (!excludes_self) return;
    return add_dot_products(memory, gradients, rows, num_nodes, num_channels, -factor, out.self);
  }
  add_products(memory, table, gradients, rows, num_channels, factor, out);
  // A message without the node itself does not depend on the weight of the node itself.
  if (excludes_self)
    fill(memory, T(0), num_nodes, out.weights.data() + table.geometry.centre() * num_nodes);
}

template <typename T>
void fold_diagonal(DeviceMemory& memory, const CudaWindowTable<T>& table,
                   CudaWindowGradient<T>& gradient) {
  if (gradient.self.is_empty()) return;
  const int64_t num_nodes = table.num_nodes(), num_cells = table.num_cells();
  if (!table.pre.is_empty()) {
    Buffer<T> diagonal(memory, num_nodes);
    window_diagonal(memory, table, false, diagonal.data());
    launch("self_gradient_kernel", self_gradient_kernel<T>, one_each(num_nodes), memory.stream(),
           diagonal.data(), table.pre.data(), table.post.data(), num_nodes, gradient.self.data(),
           gradient.pre.data(), gradient.post.data());
  }
  constexpr int64_t kMostRows = 65535;  // of a grid of blocks
  LaunchShape shape = one_each(num_cells);
  shape.grid.y = static_cast<unsigned>(std::min(kMostRows, table.num_taps()));
  launch("diagonal_weights_kernel", diagonal_weights_kernel<T>, shape, memory.stream(), table.cells,
         table.taps.data(), gradient.self.data(), table.num_taps(), num_cells,
         gradient.weights.data());
  gradient.self = Buffer<T>();
}

#define DF_INSTANTIATE(T)                                                                         \
  template class CudaWindowGradient<T>;                                                           \
  template void add_window_gradient(DeviceMemory&, const CudaWindowTable<T>&, const T*, const T*, \
                                    const CompatibilityTable<T>*, int64_t, bool,                  \
                                    CudaWindowGradient<T>&);                                      \
  template void fold_diagonal(DeviceMemory&, const CudaWindowTable<T>&, CudaWindowGradient<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
