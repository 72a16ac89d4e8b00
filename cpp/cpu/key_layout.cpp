#include "key_layout.h"

#include <algorithm>

#include "densefield/threads.h"

namespace densefield::cpu {
namespace {

constexpr int64_t kGrain = 65536;  // nodes per task

// Smallest and largest of some columns of numbers, and whether any is not a number. Every column
// has its own, so that whole vectors of them are compared at once.
template <typename T>
class ColumnRanges {
 public:
  void start(const T* first_row, int64_t num_columns) {
    low_.assign(first_row, first_row + num_columns);
    high_ = low_;
    zero_.assign(low_.size(), T(0));
  }

  void add(const T* row) {
    const size_t num_columns = low_.size();
    T* __restrict low = low_.data();
    T* __restrict high = high_.data();
    T* __restrict zero = zero_.data();
    for (size_t c = 0; c < num_columns; ++c) {
      low[c] = row[c] < low[c] ? row[c] : low[c];
      high[c] = high[c] < row[c] ? row[c] : high[c];
      zero[c] += row[c] * T(0);  // anything else, once a number was not finite
    }
  }
  ValueRange range(size_t column) const {
    ValueRange range;
    range.add(low_[column]);
    range.add(high_[column]);
    range.is_finite &= zero_[column] == T(0);
    return range;
  }

 private:
  std::vector<T> low_;
  std::vector<T> high_;
  std::vector<T> zero_;
};

// Adds nodes begin .. end - 1. Channels that lie together are taken at once, and so are nodes
// that lie behind each other.
template <typename T>
void add_ranges(const NodeView<const T>& values, int64_t begin, int64_t end, ValueRange* ranges) {
  constexpr int64_t kNodes = 16;
  const int64_t width = values.channel_stride == 1 ? values.num_channels : 1;
  ColumnRanges<T> columns;
  const auto add = [&](int64_t channel, int64_t first, int64_t last, int64_t nodes) {
    if (first == last) return;
    columns.start(&values.at(channel, first), nodes * width);
    for (int64_t i = first; i < last; i += nodes) columns.add(&values.at(channel, i));
    for (int64_t k = 0; k < nodes * width; ++k)
      ranges[channel + k % width].add(columns.range(static_cast<size_t>(k)));
  };
  const bool is_dense = values.node_stride == width;
  const int64_t whole = is_dense ? begin + (end - begin) / kNodes * kNodes : begin;
  for (int64_t c = 0; c < values.num_channels; c += width) {
    add(c, begin, whole, kNodes);
    add(c, whole, end, 1);
  }
}

// The range of every channel over all nodes. Blocks are slices of the grid order: only
// minimum and maximum are taken, which no order changes.
template <typename T>
std::vector<ValueRange> channel_ranges(const NodeView<const T>& values) {
  const auto num_channels = static_cast<size_t>(values.num_channels);
  const int64_t num_tasks = (values.num_nodes + kGrain - 1) / kGrain;
  std::vector<ValueRange> part(static_cast<size_t>(num_tasks) * num_channels);
  parallel_for(num_tasks, [&](int64_t task, int) {
    add_ranges(values, task * kGrain, std::min(values.num_nodes, (task + 1) * kGrain),
               part.data() + static_cast<size_t>(task) * num_channels);
  });
  std::vector<ValueRange> ranges(num_channels);
  for (size_t p = 0; p < part.size(); ++p) ranges[p % num_channels].add(part[p]);
  return ranges;
}

}  // namespace

template <typename T>
KeyLayout make_key_layout(const CpuLayout& layout, const Features<T>& features) {
  check_dim(features);
  return densefield::make_key_layout(layout.grid(), features, channel_ranges(features.values));
}

template KeyLayout make_key_layout(const CpuLayout&, const Features<float>&);
template KeyLayout make_key_layout(const CpuLayout&, const Features<double>&);

}  // namespace densefield::cpu
