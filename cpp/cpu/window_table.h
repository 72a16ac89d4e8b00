// The CPU's table of window weights, and how a row of it is read.
#pragma once

#include <algorithm>
#include <vector>

#include "densefield/window.h"
#include "simd/window_kernels.h"
#include "window_geometry.h"
#include "window_resample.h"

namespace densefield::cpu {

inline int64_t whole_blocks(int64_t pixels) {
  return (pixels + simd::kWindowBlock - 1) / simd::kWindowBlock * simd::kWindowBlock;
}

// The weights in the order in which messages read them: for every grid row and block of
// pixels the taps one after another, 0 where a neighbour in a row of the grid is outside it.
// All taps are stored although a symmetric kernel would need half of them: reading half and
// the rest at the neighbours took 1.4 times as long (7 x 7: 10.1 against 7.1 ms, measured).
template <typename T>
class CpuWindowTable final : public WindowTable<T> {
 public:
  CpuWindowTable(const CellGrid& grid, WindowShape shape, int64_t filter_size, bool symmetric);

  int64_t num_taps() const override { return geometry.num_taps; }
  int64_t num_bytes() const override {
    return weights.num_bytes() + pre.num_bytes() + post.num_bytes();
  }
  int64_t margin() const override { return geometry.radius + simd::kWindowBlock; }

  int64_t num_nodes() const { return cells.fine[0] * cells.fine[1] * cells.fine[2]; }
  // The weights of the block that starts at pixel x.
  int64_t block_begin(int64_t row, int64_t x) const {
    const int64_t per_row = whole_blocks(geometry.extent[2]);
    return (row * per_row + x) * geometry.num_taps;
  }
  T weight(int64_t row, int64_t x, int64_t tap) const {
    const int64_t lane = x % simd::kWindowBlock;
    return weights[block_begin(row, x - lane) + tap * simd::kWindowBlock + lane];
  }

  const CellGrid cells;
  const WindowGeometry geometry;  // of the grid of cells
  const bool is_symmetric;        // of the weights, without `pre` and `post`
  Buffer<T> weights;              // [rows, blocks, num_taps, kWindowBlock]
  Buffer<T> pre;                  // [N] scales at the nodes; empty where the weights include them
  Buffer<T> post;                 // [N]
};

template <typename T>
const CpuWindowTable<T>& as_cpu(const WindowTable<T>& table) {
  return static_cast<const CpuWindowTable<T>&>(table);
}

// Finds the neighbour rows of one row of cells after another.
template <typename T>
class WindowRowReader {
 public:
  // values: [cells, stride] with margins.
  WindowRowReader(const CpuWindowTable<T>& table, const T* values, int64_t stride,
                  bool is_transposed = false)
      : table_(table), values_(values), stride_(stride), is_transposed_(is_transposed) {}

  simd::WindowRow<T> row(int64_t index, int64_t begin, int64_t end) {
    if (index != current_) open(index);
    const T* own = table_.weights.data() + table_.block_begin(index, begin);
    return {begin,
            end,
            static_cast<int>(segments_.size()),
            segments_.data(),
            table_.geometry.num_taps,
            is_transposed_ ? transposed(begin, end) : own};
  }

 private:
  void open(int64_t index) {
    const WindowGeometry& geometry = table_.geometry;
    segments_.clear();
    neighbours_.clear();
    for (const WindowRowSpan& span : geometry.spans) {
      if (!geometry.has_neighbour_row(index, span)) continue;
      const int64_t neighbour = index + geometry.row_distance(span);
      segments_.push_back({values_ + (neighbour * geometry.extent[2] - span.radius) * stride_,
                           2 * span.radius + 1, span.first_tap});
      neighbours_.push_back(neighbour);
    }
    current_ = index;
  }

  // The weights that the neighbours have for the pixels of whole blocks, K^T_ij = K_ji, in the
  // order of the pixels' own.
  const T* transposed(int64_t begin, int64_t end) {
    const int64_t num_taps = table_.geometry.num_taps, block_size = num_taps * simd::kWindowBlock;
    const int64_t num_blocks = (end - begin + simd::kWindowBlock - 1) / simd::kWindowBlock;
    transposed_.assign(static_cast<size_t>(num_blocks * block_size), T(0));
    T* to = transposed_.data();
    for (int64_t x = begin; x < end; x += simd::kWindowBlock, to += block_size)
      for (size_t s = 0; s < segments_.size(); ++s)
        for (int64_t t = 0; t < segments_[s].num_taps; ++t) {
          const int64_t tap = segments_[s].first_tap + t;
          copy_weights(neighbours_[s], num_taps - 1 - tap, x + t - segments_[s].num_taps / 2,
                       to + tap * simd::kWindowBlock);
        }
    return transposed_.data();
  }

  // One tap's weights of a block of pixels from x on, as far as they are on the grid.
  void copy_weights(int64_t row, int64_t tap, int64_t x, T* to) const {
    const int64_t end = std::min(x + simd::kWindowBlock, table_.geometry.extent[2]);
    for (int64_t next = std::max<int64_t>(x, 0); next < end;) {
      const int64_t lane = next % simd::kWindowBlock;
      const int64_t count = std::min(simd::kWindowBlock - lane, end - next);
      const T* from = table_.weights.data() + table_.block_begin(row, next - lane);
      std::copy_n(from + tap * simd::kWindowBlock + lane, count, to + next - x);
      next += count;
    }
  }

  const CpuWindowTable<T>& table_;
  const T* values_;
  const int64_t stride_;
  const bool is_transposed_;
  int64_t current_ = -1;
  std::vector<simd::WindowSegment<T>> segments_;
  std::vector<int64_t> neighbours_;  // their rows
  std::vector<T> transposed_;
};

// Values of the cells as messages read them: [cells, stride] between margins of 0.
template <typename T>
class CellRows {
 public:
  CellRows(const CpuWindowTable<T>& table, int64_t stride)
      : margin_(table.margin() * stride),
        rows_(host_memory(), table.geometry.num_nodes() * stride + 2 * margin_) {
    std::fill_n(rows_.data(), margin_, T(0));
    std::fill_n(rows_.data() + rows_.size() - margin_, margin_, T(0));
  }

  T* data() { return rows_.data() + margin_; }
  const T* data() const { return rows_.data() + margin_; }

 private:
  int64_t margin_;
  Buffer<T> rows_;
};

// Pieces of grid rows that are worked on as one task: neighbouring rows share most of what
// they read, and a task should be worth the hand-over.
class RowTasks {
 public:
  explicit RowTasks(const Place& extent)
      : width_(extent[2]),
        pieces_((width_ + kPiece - 1) / kPiece),
        num_pieces_(extent[0] * extent[1] * pieces_),
        per_task_(std::max<int64_t>(1, kTaskPixels / std::min(width_, kPiece))) {}

  int64_t num_tasks() const { return (num_pieces_ + per_task_ - 1) / per_task_; }
  // body(row, begin, end) for every piece of a task.
  template <typename Body>
  void for_pieces(int64_t task, Body body) const {
    const int64_t last = std::min(num_pieces_, (task + 1) * per_task_);
    for (int64_t piece = task * per_task_; piece < last; ++piece) {
      const int64_t begin = piece % pieces_ * kPiece;
      body(piece / pieces_, begin, std::min(width_, begin + kPiece));
    }
  }

 private:
  static constexpr int64_t kPiece = 2048;       // pixels; a multiple of the window's block
  static constexpr int64_t kTaskPixels = 8192;  // about 0.2 ms of a 7 x 7 window

  int64_t width_;
  int64_t pieces_;
  int64_t num_pieces_;
  int64_t per_task_;
};

// window_build.cpp
template <typename T>
std::shared_ptr<const CpuWindowTable<T>> make_window_table(const Grid&, const WindowOptions&,
                                                           std::span<const WindowTerm<T>>);

// window_apply.cpp. Rows as in backend.h.
template <typename T>
void apply_window(const CpuWindowTable<T>&, const T* rows, int64_t num_channels, bool transpose,
                  T* out);
// out [cells, stride] = the weights alone, between cells; `rows` has margins.
template <typename T>
void pass_messages(const CpuWindowTable<T>&, const T* rows, int64_t stride, bool transpose, T* out);
// Between cells of several nodes, K~ = diag(post) U K D diag(pre): D means over cells, U
// interpolates between them. D diag(pre) of the nodes' rows,
template <typename T>
CellRows<T> cell_means(const CpuWindowTable<T>&, const T* rows, int64_t stride);
// and their messages, interpolated along z and y: [fine z, fine y, coarse x, stride].
template <typename T>
Buffer<T> messages_along_rows(const CpuWindowTable<T>&, const CellRows<T>& means, int64_t stride);
template <typename T>
void window_diagonal(const CpuWindowTable<T>&, T* out);

// window_pass.cpp
template <typename T>
T window_pass(const WindowPass<T>&);

}  // namespace densefield::cpu
