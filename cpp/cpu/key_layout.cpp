#include "key_layout.h"

#include <algorithm>

#include "densefield/threads.h"

namespace densefield::cpu {
namespace {

// The range of one channel over all nodes. Blocks are slices of the grid order: only
// minimum and maximum are taken, which no order changes.
template <typename T>
ValueRange range_of_channel(const NodeView<const T>& values, int64_t channel) {
  constexpr int64_t kGrain = 65536;  // values per task; reads at memory speed
  const int64_t num_tasks = (values.num_nodes + kGrain - 1) / kGrain;
  std::vector<ValueRange> part(static_cast<size_t>(num_tasks));
  parallel_for(num_tasks, [&](int64_t task, int) {
    const int64_t end = std::min(values.num_nodes, (task + 1) * kGrain);
    T low = values.at(channel, task * kGrain), high = low, zero_if_finite = 0;
    for (int64_t i = task * kGrain; i < end; ++i) {
      const T x = values.at(channel, i);
      low = x < low ? x : low;
      high = high < x ? x : high;
      zero_if_finite += x * T(0);
    }
    ValueRange& range = part[static_cast<size_t>(task)];
    range.add(low);
    range.add(high);
    range.is_finite &= zero_if_finite == T(0);
  });
  ValueRange range;
  for (const ValueRange& p : part) range.add(p);
  return range;
}

}  // namespace

template <typename T>
KeyLayout make_key_layout(const CpuLayout& layout, const Features<T>& features) {
  check_dim(features);
  std::vector<ValueRange> channels;
  for (int64_t c = 0; c < features.values.num_channels; ++c)
    channels.push_back(range_of_channel(features.values, c));
  return densefield::make_key_layout(layout.grid(), features, channels);
}

template KeyLayout make_key_layout(const CpuLayout&, const Features<float>&);
template KeyLayout make_key_layout(const CpuLayout&, const Features<double>&);

}  // namespace densefield::cpu
