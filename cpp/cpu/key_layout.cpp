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
  ColumnRanges(const T* first_row, int64_t num_columns)
      : low_(first_row, first_row + num_columns), high_(low_), zero_(low_.size(), T(0)) {}

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

// The ranges of some nodes' channels, which lie as `values` says. The nodes are taken in
// `kColumns` columns; what is left goes one by one.
template <typename T>
void add_ranges(const NodeView<const T>& values, int64_t begin, int64_t end, ValueRange* ranges) {
  constexpr int64_t kColumns = 16;
  const int64_t num_channels = values.num_channels;
  const bool is_flat = values.channel_stride == 1 && values.node_stride == num_channels;
  const int64_t whole = begin + (end - begin) / kColumns * kColumns;
  if (is_flat && whole > begin) {
    ColumnRanges<T> columns(&values.at(0, begin), kColumns * num_channels);
    for (int64_t i = begin; i < whole; i += kColumns) columns.add(&values.at(0, i));
    for (int64_t c = 0; c < kColumns * num_channels; ++c)
      ranges[c % num_channels].add(columns.range(static_cast<size_t>(c)));
    begin = whole;
  } else if (values.node_stride == 1 && whole > begin) {
    for (int64_t c = 0; c < num_channels; ++c) {
      ColumnRanges<T> columns(&values.at(c, begin), kColumns);
      for (int64_t i = begin; i < whole; i += kColumns) columns.add(&values.at(c, i));
      for (size_t column = 0; column < kColumns; ++column) ranges[c].add(columns.range(column));
    }
    begin = whole;
  }
  for (int64_t i = begin; i < end; ++i)
    for (int64_t c = 0; c < num_channels; ++c) ranges[c].add(values.at(c, i));
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
