// Splat, filter and slice of a spatial kernel, core/grid_kernel.h. The filter is separable:
// along the last axis while the blocks' boxes are summed, then along each of the others.
#include <algorithm>
#include <cstring>
#include <utility>

#include "densefield/threads.h"
#include "prefetch.h"
#include "scratch.h"
#include "steps.h"

namespace densefield::cpu {

template <typename T>
simd::GridBlock<T> grid_block(const CpuLattice<T>& lattice, int64_t index) {
  const GridTables<T>& grid = *lattice.grid;
  const Block& block = lattice.layout->blocks()[static_cast<size_t>(index)];
  const GridAxis<T>& last = grid.last_axis();
  return {block.end - block.begin,
          grid.runs.data() + block.run_begin,
          block.run_end - block.run_begin,
          last.step,
          last.num_corners(),
          last.corner_weight.data(),
          grid.num_lines,
          grid.line_node.data(),
          grid.line_slot[static_cast<size_t>(index)].data()};
}

namespace {

// Tags of thread_scratch.
struct Line;
struct Neighbours;

// Nodes of a line that are summed and filtered at a time: with 24 channels they and their
// neighbours stay in the first-level cache.
constexpr int64_t kSegment = 256;

// Elements across which the filter moves along another axis at a time, for the same reason.
constexpr int64_t kChunk = 512;
constexpr int64_t kNodesPerTask = 64;

// The sum of the boxes and the filter along the last axis, one segment at a time.
template <typename T>
class LineFilter {
 public:
  LineFilter(const CpuLattice<T>& lattice, const std::vector<T>& tap, CpuVertexRows<T>& rows)
      : lattice_(lattice), axis_(lattice.grid->last_axis()), tap_(tap), rows_(rows) {}

  int64_t num_segments() const { return (axis_.num_nodes + kSegment - 1) / kSegment; }

  // Segment `segment` of the line that starts at node first.
  void run(int64_t first, int64_t segment) const {
    const int64_t begin = segment * kSegment, end = std::min(begin + kSegment, axis_.num_nodes);
    const int64_t low = begin - axis_.reach(), high = end + axis_.reach();
    const int64_t num_elements = (high - low) * rows_.stride;
    T* sums = thread_scratch<T, Line>(num_elements);
    std::fill_n(sums, num_elements, T(0));
    sum_boxes(first / axis_.num_nodes, low, high, sums);
    const int64_t num_taps = 2 * axis_.reach() + 1;
    const T** line = thread_scratch<const T*, Neighbours>(num_taps);
    for (int64_t r = 0; r < num_taps; ++r) line[r] = sums + r * rows_.stride;
    simd::kernels<T>().filter_line(line, tap_.data(), axis_.reach(), (end - begin) * rows_.stride,
                                   rows_.nodes.data() + (first + begin) * rows_.stride);
  }

 private:
  // sums += nodes [low, high) of every box that the line passes through.
  void sum_boxes(int64_t line, int64_t low, int64_t high, T* sums) const {
    const auto& axes = lattice_.grid->axes;
    const size_t outer = axes.size() - 1;
    std::array<int64_t, kMaxGridKernelAxes> node{}, interval{};
    for (size_t a = outer; a-- > 0; line /= axes[a].num_nodes) {
      node[a] = line % axes[a].num_nodes;
      interval[a] = axes[a].first[static_cast<size_t>(node[a])];
    }
    for (bool more = true; more;) {
      int64_t block = 0, offset = 0;
      for (size_t a = 0; a < outer; ++a) {
        const auto i = static_cast<size_t>(interval[a]);
        block = block * axes[a].num_intervals() + interval[a];
        offset = offset * (axes[a].high[i] - axes[a].low[i]) + node[a] - axes[a].low[i];
      }
      add_lines(block * axis_.num_intervals(), offset, low, high, sums);
      more = false;
      for (size_t a = outer; a-- > 0 && !more;) {
        more = ++interval[a] < axes[a].end[static_cast<size_t>(node[a])];
        if (!more) interval[a] = axes[a].first[static_cast<size_t>(node[a])];
      }
    }
  }

  // The blocks that follow each other along the last axis, from first_block on; `offset`
  // counts the lines of a box before this one.
  void add_lines(int64_t first_block, int64_t offset, int64_t low, int64_t high, T* sums) const {
    for (int64_t i = 0; i < axis_.num_intervals(); ++i) {
      const int64_t box_low = axis_.low[static_cast<size_t>(i)];
      const int64_t box_high = axis_.high[static_cast<size_t>(i)];
      const int64_t begin = std::max(low, box_low), end = std::min(high, box_high);
      if (begin >= end) continue;
      const int64_t slot = lattice_.slot_begin[static_cast<size_t>(first_block + i)] +
                           offset * (box_high - box_low) + begin - box_low;
      simd::kernels<T>().add_rows(rows_.slots.data() + slot * rows_.stride,
                                  (end - begin) * rows_.stride,
                                  sums + (begin - low) * rows_.stride);
    }
  }

  const CpuLattice<T>& lattice_;
  const GridAxis<T>& axis_;
  const std::vector<T>& tap_;
  CpuVertexRows<T>& rows_;
};

template <typename T>
void filter_last_axis(const CpuLattice<T>& lattice, const std::vector<T>& tap,
                      CpuVertexRows<T>& rows) {
  const LineFilter<T> filter(lattice, tap, rows);
  const int64_t num_nodes = lattice.grid->last_axis().num_nodes;
  const int64_t num_tasks = lattice.vertex_count / num_nodes * filter.num_segments();
  parallel_for(num_tasks, [&](int64_t task, int) {
    filter.run(task / filter.num_segments() * num_nodes, task % filter.num_segments());
  });
}

// to = the filter of `from` along an axis whose nodes lie `pitch` elements apart.
template <typename T>
void filter_axis(const GridAxis<T>& axis, const std::vector<T>& tap, int64_t pitch,
                 int64_t num_elements, const T* from, T* to) {
  static constexpr T kOutside[kChunk] = {};
  const int64_t num_chunks = (pitch + kChunk - 1) / kChunk;
  const int64_t num_ranges = (axis.num_nodes + kNodesPerTask - 1) / kNodesPerTask;
  const int64_t slab = pitch * axis.num_nodes;
  parallel_for(num_elements / slab * num_chunks * num_ranges, [&](int64_t task, int) {
    const int64_t chunk = task % num_chunks, range = task / num_chunks % num_ranges;
    const int64_t first = task / num_chunks / num_ranges * slab + chunk * kChunk;
    const int64_t count = std::min(kChunk, pitch - chunk * kChunk);
    const int64_t end = std::min((range + 1) * kNodesPerTask, axis.num_nodes);
    const T** line = thread_scratch<const T*, Neighbours>(2 * axis.reach() + 1);
    for (int64_t node = range * kNodesPerTask; node < end; ++node) {
      for (int64_t r = -axis.reach(); r <= axis.reach(); ++r) {
        const bool is_inside = node + r >= 0 && node + r < axis.num_nodes;
        line[r + axis.reach()] = is_inside ? from + first + (node + r) * pitch : kOutside;
      }
      // What the next node reads and writes for the first time.
      if (node + axis.reach() + 1 < axis.num_nodes) {
        prefetch_values<Use::read>(from + first + (node + axis.reach() + 1) * pitch, count);
        prefetch_values<Use::write>(to + first + (node + 1) * pitch, count);
      }
      simd::kernels<T>().filter_line(line, tap.data(), axis.reach(), count,
                                     to + first + node * pitch);
    }
  });
}

}  // namespace

template <typename T>
void splat_grid(const CpuLattice<T>& lattice, const T* rows, const T* pre, CpuVertexRows<T>& out) {
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const int64_t first = lattice.layout->blocks()[static_cast<size_t>(index)].begin;
    T* box = out.slots.data() + lattice.slot_begin[static_cast<size_t>(index)] * out.stride;
    std::memset(box, 0,
                static_cast<size_t>(lattice.slots_of_block(index) * out.stride) * sizeof(T));
    simd::kernels<T>().grid_splat(grid_block(lattice, index), rows + first * out.stride,
                                  pre != nullptr ? pre + first : nullptr, box, out.stride,
                                  thread_scratch<T, Line>(simd::kLineRows * out.stride));
  });
}

template <typename T>
void filter_grid(const CpuLattice<T>& lattice, CpuVertexRows<T>& rows, size_t derived_axis) {
  const auto tap_of = [&](size_t a) -> const std::vector<T>& {
    const GridAxis<T>& axis = lattice.grid->axes[a];
    return a == derived_axis ? axis.tap_grad : axis.tap;
  };
  filter_last_axis(lattice, tap_of(lattice.grid->axes.size() - 1), rows);
  // An update clears the slots before it splats: until then they are room for nodes.
  const bool keeps_slots = derived_axis != kNoAxis;
  if (keeps_slots && lattice.grid->axes.size() > 1 && rows.spare.is_empty())
    rows.spare = Buffer<T>(host_memory(), rows.nodes.size());
  Buffer<T>& room = keeps_slots ? rows.spare : rows.slots;
  int64_t pitch = rows.stride * lattice.grid->last_axis().num_nodes;
  for (size_t a = lattice.grid->axes.size() - 1; a-- > 0;) {
    const GridAxis<T>& axis = lattice.grid->axes[a];
    if (axis.reach() > 0 || a == derived_axis) {
      filter_axis(axis, tap_of(a), pitch, lattice.vertex_count * rows.stride, rows.nodes.data(),
                  room.data());
      std::swap(rows.nodes, room);
    }
    pitch *= axis.num_nodes;
  }
}

template <typename T>
void slice_grid(const CpuLattice<T>& lattice, const CpuVertexRows<T>& from, const T* post, T scale,
                T* rows) {
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const int64_t first = lattice.layout->blocks()[static_cast<size_t>(index)].begin;
    simd::kernels<T>().grid_slice(grid_block(lattice, index), from.nodes.data(),
                                  post != nullptr ? post + first : nullptr, scale,
                                  rows + first * from.stride, from.stride,
                                  thread_scratch<T, Line>(simd::kLineRows * from.stride));
  });
}

template <typename T>
void diagonal_grid(const CpuLattice<T>& lattice, T* out) {
  const auto& axes = lattice.grid->axes;
  const auto& extent = lattice.layout->grid().extent;
  const auto along = [](const GridAxis<T>& axis, int64_t coordinate) {
    const T* weight = axis.corner_weight.data() + coordinate % axis.step * 2;
    const T next_tap = axis.tap.size() > 1 ? axis.tap[1] : T(0);
    return node_diagonal(axis.step, axis.tap[0], next_tap, weight[0], weight[1]);
  };
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const Block& block = lattice.layout->blocks()[static_cast<size_t>(index)];
    int64_t point = block.begin;
    for (int64_t r = block.run_begin; r < block.run_end; ++r) {
      int64_t rest = lattice.layout->run(r).node / extent.back();
      T across = T(1);
      for (size_t a = axes.size() - 1; a-- > 0; rest /= extent[a])
        across *= along(axes[a], rest % extent[a]);
      const int64_t position = lattice.grid->runs[static_cast<size_t>(r)].position;
      for (int64_t p = 0; p < lattice.layout->run(r).length; ++p)
        out[point++] = across * along(axes.back(), position + p);
    }
  });
}

#define DF_INSTANTIATE(T)                                                                   \
  template simd::GridBlock<T> grid_block(const CpuLattice<T>&, int64_t);                    \
  template void splat_grid(const CpuLattice<T>&, const T*, const T*, CpuVertexRows<T>&);    \
  template void filter_grid(const CpuLattice<T>&, CpuVertexRows<T>&, size_t);               \
  template void slice_grid(const CpuLattice<T>&, const CpuVertexRows<T>&, const T*, T, T*); \
  template void diagonal_grid(const CpuLattice<T>&, T*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
