// The fused update of mean field with window kernels, piece by piece of the grid's rows:
// messages, compatibility, softmax, while a piece is in the first-level cache.
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "densefield/threads.h"
#include "prefetch.h"
#include "scratch.h"
#include "simd/kernels.h"
#include "steps.h"
#include "window_table.h"

namespace densefield::cpu {
namespace {

constexpr int64_t kChunk = 64;  // pixels: 6 KB of messages for 21 labels

// What passes between cells, ready to be interpolated along the rows.
template <typename T>
struct BetweenCells {
  Buffer<T> messages;  // [fine z, fine y, coarse x, stride]
  std::vector<CellPair<T>> pairs;
};

template <typename T>
BetweenCells<T> pass_between_cells(const CpuWindowTable<T>& table, const T* marginals,
                                   int64_t stride) {
  return {messages_along_rows(table, cell_means(table, marginals, stride), stride),
          cells_along_row<T>(table.cells)};
}

template <typename T>
class PiecePass {
 public:
  PiecePass(const WindowPass<T>& pass, const std::vector<BetweenCells<T>>& between_cells,
            Place extent)
      : pass_(pass),
        between_cells_(between_cells),
        extent_(extent),
        stride_(padded_stride<T>(pass.num_labels)) {
    for (const auto& kernel : pass.kernels)
      readers_.emplace_back(as_cpu(*kernel), pass.marginals, stride_);
  }

  // Nodes [begin, end) of a row; returns the largest change.
  T run(int64_t row, int64_t begin, int64_t end) {
    struct Energy;
    struct Passes;
    T* energy = thread_scratch<T, Energy>(3 * kChunk * stride_);
    T* scratch = thread_scratch<T, Passes>(simd::kPassScratchRows * stride_);
    T largest = 0;
    for (int64_t first = begin; first < end; first += kChunk) {
      const int64_t count = std::min(kChunk, end - first);
      const int64_t node = row * extent_[2] + first;
      prefetch(node, count);
      for (size_t m = 0; m < readers_.size(); ++m)
        add_energy(m, row, first, count, scratch, energy);
      T change = 0;
      simd::PassBlock<T> block{};
      block.count = count;
      block.stride = stride_;
      block.node_stride = stride_;
      block.num_labels = pass_.num_labels;
      block.unary = unary_rows(node, count, energy + 2 * kChunk * stride_);
      block.energy = readers_.empty() ? nullptr : energy;
      block.previous = pass_.marginals + node * stride_;
      block.marginals =
          pass_.updated != nullptr ? pass_.updated + node * stride_ : energy + kChunk * stride_;
      block.scratch = scratch;
      block.change = pass_.wants_change ? &change : nullptr;
      simd::kernels<T>().pass(block);
      if (pass_.scores != nullptr) store_scores(node, count, block.unary, energy);
      if (pass_.result != nullptr) store_result(node, count, block.marginals);
      largest = std::max(largest, change);
    }
    return largest;
  }

 private:
  // What the update needs behind the messages comes from memory while they are computed. Inlined
  // by force, as prefetch_run.
  __attribute__((always_inline)) void prefetch(int64_t node, int64_t count) const {
    if (pass_.unary == nullptr) prefetch_run<Use::read>(pass_.unary_nodes, {node, count});
    if (pass_.updated != nullptr)
      prefetch_values<Use::write>(pass_.updated + node * stride_, count * stride_);
  }

  // The padding's energy is above any label's, so that its marginals vanish.
  const T* unary_rows(int64_t node, int64_t count, T* scratch) const {
    if (pass_.unary != nullptr) return pass_.unary + node * stride_;
    load_run(pass_.unary_nodes, {node, count}, std::numeric_limits<T>::infinity(), scratch,
             stride_);
    return scratch;
  }

  // energy [kChunk, stride] += A_m K~_m q, or = for the first kernel.
  void add_energy(size_t m, int64_t row, int64_t first, int64_t count, T* scratch, T* energy) {
    const CompatibilityTable<T>& compatibility = pass_.compatibility[m];
    const T* table = compatibility.values.data();
    const bool is_first = m == 0;
    T* messages = is_first ? energy : energy + kChunk * stride_;
    message(m, row, first, count, messages);
    if (is_first && compatibility.form == CompatibilityForm::scalar && table[0] == T(1)) return;
    simd::window_kernels<T>().transform({compatibility.form, table, pass_.num_labels, count,
                                         stride_, messages, !is_first, scratch, energy});
  }

  void message(size_t m, int64_t row, int64_t first, int64_t count, T* to) {
    const CpuWindowTable<T>& table = as_cpu(*pass_.kernels[m]);
    const int64_t node = row * extent_[2] + first;
    if (!table.cells.has_cells()) {
      simd::window_kernels<T>().message(readers_[m].row(row, first, first + count), stride_, to);
    } else {
      const BetweenCells<T>& between = between_cells_[m];
      const T* post = table.post.is_empty() ? nullptr : table.post.data() + node;
      const T* cells = between.messages.data() + row * table.geometry.extent[2] * stride_;
      simd::window_kernels<T>().interpolate(
          {count, stride_, between.pairs.data() + first, cells, post, to});
    }
    if (pass_.self.empty()) return;
    const T* marginals = pass_.marginals + node * stride_;
    for (int64_t p = 0; p < count; ++p)
      for (int64_t c = 0; c < stride_; ++c)
        to[p * stride_ + c] -= pass_.self[m][node + p] * marginals[p * stride_ + c];
  }

  void store_scores(int64_t node, int64_t count, const T* unary, const T* energy) {
    T* to = pass_.scores + node * stride_;
    for (int64_t e = 0; e < count * stride_; ++e)
      to[e] = readers_.empty() ? -unary[e] : -unary[e] - energy[e];
  }

  void store_result(int64_t node, int64_t count, const T* marginals) {
    const NodeView<T>& to = *pass_.result;
    if (to.node_stride == 1)
      return simd::kernels<T>().store_rows(marginals, stride_, count, pass_.num_labels,
                                           &to.at(0, node), to.channel_stride, nullptr);
    for (int64_t p = 0; p < count; ++p)
      for (int64_t c = 0; c < pass_.num_labels; ++c)
        to.at(c, node + p) = marginals[p * stride_ + c];
  }

  const WindowPass<T>& pass_;
  const std::vector<BetweenCells<T>>& between_cells_;
  const Place extent_;
  const int64_t stride_;
  std::vector<WindowRowReader<T>> readers_;
};

}  // namespace

template <typename T>
T window_pass(const WindowPass<T>& pass) {
  const int64_t stride = padded_stride<T>(pass.num_labels);
  Place extent{1, 1, pass.layout->num_nodes()};
  std::vector<BetweenCells<T>> between_cells;
  for (const auto& kernel : pass.kernels) {
    const CpuWindowTable<T>& table = as_cpu(*kernel);
    extent = table.cells.fine;
    between_cells.push_back(table.cells.has_cells()
                                ? pass_between_cells(table, pass.marginals, stride)
                                : BetweenCells<T>());
  }
  const RowTasks tasks(extent);
  std::vector<T> change(static_cast<size_t>(tasks.num_tasks()), T(0));
  parallel_for(tasks.num_tasks(), [&](int64_t task, int) {
    PiecePass<T> body(pass, between_cells, extent);
    tasks.for_pieces(task, [&](int64_t row, int64_t begin, int64_t end) {
      T& largest = change[static_cast<size_t>(task)];
      largest = std::max(largest, body.run(row, begin, end));
    });
  });
  return change.empty() ? T(0) : *std::max_element(change.begin(), change.end());
}

template float window_pass(const WindowPass<float>&);
template double window_pass(const WindowPass<double>&);

}  // namespace densefield::cpu
