// dL/dK of a message, maths §5 "Gradients": products of the gradient at a pixel with the values
// of its neighbours, summed over channels.
#include "window_gradient.h"

#include <algorithm>

#include "../core/window.h"
#include "densefield/backend.h"
#include "densefield/threads.h"
#include "scratch.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {
namespace {

constexpr int64_t kGrain = 4096;  // nodes per task: about 0.1 ms

template <typename Body>
void for_nodes(int64_t num_nodes, Body body) {
  parallel_for((num_nodes + kGrain - 1) / kGrain, [&](int64_t task, int) {
    body(task * kGrain, std::min(num_nodes, (task + 1) * kGrain));
  });
}

// dL/dmessage = -A^T dL/dz, or a copy where there is no compatibility.
template <typename T>
void message_gradient(const T* grad_scores, const CompatibilityTable<T>* transposed, int64_t count,
                      int64_t num_channels, int64_t stride, T* to) {
  struct Labels;
  if (transposed == nullptr) {
    std::copy_n(grad_scores, count * stride, to);
    return;
  }
  simd::window_kernels<T>().transform({transposed->form, transposed->values.data(), num_channels,
                                       count, stride, grad_scores, false,
                                       thread_scratch<T, Labels>(stride), to});
  for (int64_t e = 0; e < count * stride; ++e) to[e] = -to[e];
}

// out[i] += sign * a_i . b_i
template <typename T>
void add_dot_products(const T* a, const T* b, int64_t num_nodes, int64_t stride, T sign, T* out) {
  for_nodes(num_nodes, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T sum = 0;
      for (int64_t c = i * stride; c < (i + 1) * stride; ++c) sum += a[c] * b[c];
      out[i] += sign * sum;
    }
  });
}

// Rows of cells channel by channel: [rows, channels, pitch]. source(row) are [width, stride].
template <typename T, typename Source>
void to_planes(const WindowGeometry& geometry, const PlaneLayout& layout, int64_t stride,
               int64_t num_channels, Buffer<T>& planes, Source source) {
  const int64_t width = geometry.extent[2];
  const int64_t size = geometry.num_rows() * num_channels * layout.pitch;
  if (planes.size() != size) planes = Buffer<T>(host_memory(), size);
  parallel_for(geometry.num_rows(), [&](int64_t row, int) {
    T* to = planes.data() + row * num_channels * layout.pitch;
    for (int64_t c = 0; c < num_channels; ++c) {
      T* plane = to + c * layout.pitch;
      std::fill_n(plane, layout.lead, T(0));
      std::fill(plane + layout.lead + width, plane + layout.pitch, T(0));
    }
    simd::kernels<T>().store_rows(source(row), stride, width, num_channels, to + layout.lead,
                                  layout.pitch, nullptr);
  });
}

// gradients(row): of the messages of a row of cells, [width, stride].
template <typename T, typename Source>
void add_products(const CpuWindowTable<T>& table, const T* values, int64_t stride,
                  int64_t num_channels, CpuWindowGradient<T>& out, Source gradients) {
  const WindowGeometry& geometry = table.geometry;
  const PlaneLayout& layout = out.layout;
  to_planes(geometry, layout, stride, num_channels, out.value_planes,
            [&](int64_t row) { return values + row * geometry.extent[2] * stride; });
  to_planes(geometry, layout, stride, num_channels, out.gradient_planes, gradients);
  const int64_t row_size = num_channels * layout.pitch;
  parallel_for(geometry.num_rows(), [&](int64_t row, int) {
    for (const WindowRowSpan& span : geometry.spans) {
      if (!geometry.has_neighbour_row(row, span)) continue;
      const int64_t neighbour = row + geometry.row_distance(span);
      simd::window_kernels<T>().add_products(
          {geometry.extent[2], num_channels, 2 * span.radius + 1, layout.pitch,
           out.gradient_planes.data() + row * row_size + layout.lead,
           out.value_planes.data() + neighbour * row_size + layout.lead - span.radius,
           out.row(row, span.first_tap)});
    }
  });
}

// A message between cells is diag(post) U K D diag(pre) q: maths §5, "Options".
template <typename T>
void add_between_cells(const CpuWindowTable<T>& table, const T* rows, const T* gradients,
                       int64_t stride, int64_t num_channels, CpuWindowGradient<T>& out) {
  const CellGrid& grid = table.cells;
  const CellRows<T> means = cell_means(table, rows, stride);
  CellRows<T> sums(table, stride);
  upsample_transpose(grid, gradients, table.post.data(), stride, sums.data());
  add_products(table, means.data(), stride, num_channels, out,
               [&](int64_t row) { return sums.data() + row * grid.coarse[2] * stride; });
  if (table.pre.is_empty()) return;

  const int64_t num_nodes = table.num_nodes();
  Buffer<T> messages(host_memory(), table.geometry.num_nodes() * stride);
  Buffer<T> nodes(host_memory(), num_nodes * stride);
  pass_messages(table, sums.data(), stride, true, messages.data());
  pool_transpose(grid, messages.data(), stride, nodes.data());
  add_dot_products(nodes.data(), rows, num_nodes, stride, T(1), out.pre.data());
  const Buffer<T> lines = messages_along_rows(table, means, stride);
  upsample_along_rows<T>(grid, lines.data(), nullptr, stride, nodes.data());
  add_dot_products(nodes.data(), gradients, num_nodes, stride, T(1), out.post.data());
}

template <typename T>
Buffer<T> zeros(int64_t count) {
  Buffer<T> buffer(host_memory(), count);
  std::fill_n(buffer.data(), count, T(0));
  return buffer;
}

// The tap that leads from one cell to another; -1 beyond the window.
int64_t tap_between(const WindowGeometry& geometry, const int64_t* to, const int64_t* from) {
  for (const WindowRowSpan& span : geometry.spans) {
    if (span.dz != from[0] - to[0] || span.dy != from[1] - to[1]) continue;
    const int64_t dx = from[2] - to[2];
    return dx < -span.radius || dx > span.radius ? -1 : span.first_tap + span.radius + dx;
  }
  return -1;
}

// Brings the gradient by the diagonal of one node to the weights and scales that it is made of.
template <typename T>
void reverse_diagonal(const CpuWindowTable<T>& table, const Place& node, int64_t index,
                      CpuWindowGradient<T>& out) {
  const T grad = out.self[index];
  const bool has_scales = !table.pre.is_empty();
  const T pre = has_scales ? table.pre[index] : T(1), post = has_scales ? table.post[index] : T(1);
  T diagonal = 0;
  const CellGrid& grid = table.cells;
  for_cells_around<T>(node.data(), grid.fine.data(), grid.coarse.data(), grid.phase.data(),
                      grid.cell_size.data(), [&](const int64_t* to, const int64_t* from, T factor) {
                        const int64_t tap = tap_between(table.geometry, to, from);
                        if (tap < 0) return;
                        const int64_t row = to[0] * grid.coarse[1] + to[1];
                        diagonal += factor * table.weight(row, to[2], tap);
                        out.row(row, tap)[to[2]] += grad * pre * post * factor;
                      });
  if (!has_scales) return;
  out.pre[index] += grad * post * diagonal;
  out.post[index] += grad * pre * diagonal;
}

}  // namespace

template <typename T>
void fold_diagonal(const CpuWindowTable<T>& table, CpuWindowGradient<T>& gradient) {
  if (gradient.self.is_empty()) return;
  int64_t index = 0;
  for (int64_t z = 0; z < table.cells.fine[0]; ++z)
    for (int64_t y = 0; y < table.cells.fine[1]; ++y)
      for (int64_t x = 0; x < table.cells.fine[2]; ++x, ++index)
        reverse_diagonal(table, {z, y, x}, index, gradient);
  gradient.self = Buffer<T>();
}

template <typename T>
CpuWindowGradient<T>::CpuWindowGradient(const CpuWindowTable<T>& table)
    : layout(table.geometry),
      num_taps(table.geometry.num_taps),
      weights(zeros<T>(table.geometry.num_rows() * num_taps * layout.pitch)) {
  if (table.pre.is_empty()) return;
  pre = zeros<T>(table.num_nodes());
  post = zeros<T>(table.num_nodes());
}

template <typename T>
void add_window_gradient(const CpuWindowTable<T>& table, const T* rows, const T* grad_scores,
                         const CompatibilityTable<T>* transposed_compatibility,
                         int64_t num_channels, bool excludes_self, CpuWindowGradient<T>& out) {
  const int64_t stride = padded_stride<T>(num_channels), num_nodes = table.num_nodes();
  if (table.cells.has_cells()) {
    Buffer<T> gradients(host_memory(), num_nodes * stride);
    for_nodes(num_nodes, [&](int64_t begin, int64_t end) {
      message_gradient(grad_scores + begin * stride, transposed_compatibility, end - begin,
                       num_channels, stride, gradients.data() + begin * stride);
    });
    add_between_cells(table, rows, gradients.data(), stride, num_channels, out);
    if (!excludes_self) return;
    if (out.self.is_empty()) out.self = zeros<T>(num_nodes);
    return add_dot_products(gradients.data(), rows, num_nodes, stride, T(-1), out.self.data());
  }
  add_products(table, rows, stride, num_channels, out, [&](int64_t row) {
    struct Rows;
    const int64_t width = table.geometry.extent[2];
    T* to = thread_scratch<T, Rows>(width * stride);
    message_gradient(grad_scores + row * width * stride, transposed_compatibility, width,
                     num_channels, stride, to);
    return to;
  });
  // A message without the node itself does not depend on the weight of the node itself.
  if (excludes_self)
    for (int64_t row = 0; row < table.geometry.num_rows(); ++row)
      std::fill_n(out.row(row, table.geometry.centre()), table.geometry.extent[2], T(0));
}

#define DF_INSTANTIATE(T)                                                         \
  template class CpuWindowGradient<T>;                                            \
  template void fold_diagonal(const CpuWindowTable<T>&, CpuWindowGradient<T>&);   \
  template void add_window_gradient(const CpuWindowTable<T>&, const T*, const T*, \
                                    const CompatibilityTable<T>*, int64_t, bool,  \
                                    CpuWindowGradient<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
