#include "key_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "../core/embed.h"
#include "densefield/error.h"
#include "densefield/threads.h"

namespace densefield::cpu {
namespace {

constexpr double kMaxCells = 1073741824.0;  // 2^30: coordinates are 32-bit integers

// Beyond this many lattice units a float's last place is more than 1/1000 of a unit.
constexpr double kMaxFloatRange = 8192.0;

// Rounding, the shift back to the hyperplane, the corner's own -1 and a blur step.
constexpr int64_t kMargin = 4;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  bool is_finite = true;

  void add(double x) {
    low = std::min(low, x);
    high = std::max(high, x);
    is_finite &= std::isfinite(x);
  }
  void add(const Range& other) {
    low = std::min(low, other.low);
    high = std::max(high, other.high);
    is_finite &= other.is_finite;
  }
};

// The range of one channel over all nodes. Blocks are slices of the grid order: only
// minimum and maximum are taken, which no order changes.
template <typename T>
Range range_of_channel(const NodeView<const T>& values, int64_t channel) {
  constexpr int64_t kGrain = 65536;  // values per task; reads at memory speed
  const int64_t num_tasks = (values.num_nodes + kGrain - 1) / kGrain;
  std::vector<Range> part(static_cast<size_t>(num_tasks));
  parallel_for(num_tasks, [&](int64_t task, int) {
    const int64_t end = std::min(values.num_nodes, (task + 1) * kGrain);
    T low = values.at(channel, task * kGrain), high = low, zero_if_finite = 0;
    for (int64_t i = task * kGrain; i < end; ++i) {
      const T x = values.at(channel, i);
      low = x < low ? x : low;
      high = high < x ? x : high;
      zero_if_finite += x * T(0);
    }
    Range& range = part[static_cast<size_t>(task)];
    range.add(low);
    range.add(high);
    range.is_finite &= zero_if_finite == T(0);
  });
  Range range;
  for (const Range& p : part) range.add(p);
  return range;
}

// Ranges of all features in units of sigma.
template <typename T>
std::vector<Range> feature_ranges(const CpuLayout& layout, const Features<T>& features) {
  std::vector<Range> ranges;
  const auto& extent = layout.grid().extent;
  for (size_t a = 0; a < features.sigma_position.size(); ++a) {
    Range range;
    range.add(0.0);
    range.add(double(extent[extent.size() - 1 - a] - 1) / double(features.sigma_position[a]));
    ranges.push_back(range);
  }
  for (int64_t c = 0; c < features.values.num_channels; ++c) {
    const Range values = range_of_channel(features.values, c);
    if (!values.is_finite)
      fail_value("features must be finite, but channel " + std::to_string(c) +
                 " holds NaN or infinity; replace those values, for example with numpy.nan_to_num");
    const double sigma = double(features.sigma_value[static_cast<size_t>(c)]);
    Range range;
    range.add(values.low / sigma);
    range.add(values.high / sigma);
    ranges.push_back(range);
  }
  return ranges;
}

// The range of every elevated coordinate by interval arithmetic; see elevate().
std::vector<Range> elevated_ranges(const std::vector<Range>& feature) {
  const int d = static_cast<int>(feature.size());
  std::vector<double> scale(feature.size());
  embedding_scales(d, scale.data());
  std::vector<Range> y(feature.size() + 1);
  Range sum;
  sum.add(0.0);
  for (int j = d; j >= 0; --j) {
    if (j == 0) {
      y[0] = sum;
      break;
    }
    const Range& f = feature[static_cast<size_t>(j - 1)];
    const double s = scale[static_cast<size_t>(j - 1)];
    y[static_cast<size_t>(j)].add(sum.low - j * s * f.high);
    y[static_cast<size_t>(j)].add(sum.high - j * s * f.low);
    const Range before = sum;
    sum = Range();
    sum.add(before.low + s * f.low);
    sum.add(before.high + s * f.high);
  }
  return y;
}

std::string short_text(double x) {
  char text[32];  // "-1.234e+308" and much to spare
  std::snprintf(text, sizeof text, "%.4g", x);
  return text;
}

}  // namespace

template <typename T>
KeyLayout make_key_layout(const CpuLayout& layout, const Features<T>& features) {
  KeyLayout keys;
  keys.dim = features.dim();
  if (keys.dim < 1 || keys.dim > kMaxDim)
    fail_value("features must have 1 to " + std::to_string(kMaxDim) + " dimensions, got " +
               std::to_string(keys.dim) + "; reduce them, for example by a projection");
  const std::vector<Range> y = elevated_ranges(feature_ranges(layout, features));
  const double size = keys.dim + 1;
  int word = 0, used = kRemainderBits;
  double furthest = 0;
  for (int i = 0; i <= keys.dim; ++i) {
    const Range& range = y[static_cast<size_t>(i)];
    furthest = std::max({furthest, std::abs(range.low), std::abs(range.high)});
    if (!(furthest / size < kMaxCells))
      fail_value(
          "features reach " + short_text(furthest / size) +
          " lattice cells and must stay within 2^30; use a larger sigma or subtract the mean");
    if (i == keys.dim) break;
    const int64_t low = static_cast<int64_t>(std::floor(range.low / size)) - kMargin;
    const int64_t high = static_cast<int64_t>(std::ceil(range.high / size)) + kMargin;
    const int bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(high - low)));
    if (used + bits > 64) {
      ++word;
      used = 0;
    }
    keys.field.push_back({word, used, static_cast<int32_t>(low)});
    used += bits;
  }
  keys.num_words = word + 1;
  keys.needs_double = furthest > kMaxFloatRange;
  return keys;
}

template KeyLayout make_key_layout(const CpuLayout&, const Features<float>&);
template KeyLayout make_key_layout(const CpuLayout&, const Features<double>&);

}  // namespace densefield::cpu
