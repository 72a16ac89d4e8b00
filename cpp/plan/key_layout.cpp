#include "key_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <string>

#include "densefield/error.h"

namespace densefield {
namespace {

constexpr double kMaxCells = 1073741824.0;  // 2^30: coordinates are 32-bit integers

// Beyond this many lattice units a float's last place is more than 1/1000 of a unit.
constexpr double kMaxFloatRange = 8192.0;

// Rounding, the shift back to the hyperplane, the corner's own -1 and a blur step.
constexpr int64_t kMargin = 4;

// Ranges of all features in units of sigma.
template <typename T>
std::vector<ValueRange> feature_ranges(const Grid& grid, const Features<T>& features,
                                       const std::vector<ValueRange>& channels) {
  std::vector<ValueRange> ranges;
  const auto& extent = grid.extent;
  for (size_t a = 0; a < features.sigma_position.size(); ++a) {
    ValueRange range;
    range.add(0.0);
    range.add(double(extent[extent.size() - 1 - a] - 1) / double(features.sigma_position[a]));
    ranges.push_back(range);
  }
  for (size_t c = 0; c < channels.size(); ++c) {
    if (!channels[c].is_finite)
      fail_value("features must be finite, but channel " + std::to_string(c) +
                 " holds NaN or infinity; replace those values, for example with numpy.nan_to_num");
    const double sigma = double(features.sigma_value[c]);
    ValueRange range;
    range.add(channels[c].low / sigma);
    range.add(channels[c].high / sigma);
    ranges.push_back(range);
  }
  return ranges;
}

// The range of every elevated coordinate by interval arithmetic; see elevate().
std::vector<ValueRange> elevated_ranges(const std::vector<ValueRange>& feature) {
  const int d = static_cast<int>(feature.size());
  std::vector<double> scale(feature.size());
  embedding_scales(d, scale.data());
  std::vector<ValueRange> y(feature.size() + 1);
  ValueRange sum;
  sum.add(0.0);
  for (int j = d; j >= 0; --j) {
    if (j == 0) {
      y[0] = sum;
      break;
    }
    const ValueRange& f = feature[static_cast<size_t>(j - 1)];
    const double s = scale[static_cast<size_t>(j - 1)];
    y[static_cast<size_t>(j)].add(sum.low - j * s * f.high);
    y[static_cast<size_t>(j)].add(sum.high - j * s * f.low);
    const ValueRange before = sum;
    sum = ValueRange();
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

void ValueRange::add(double x) {
  low = std::min(low, x);
  high = std::max(high, x);
  is_finite &= std::isfinite(x);
}

void ValueRange::add(const ValueRange& other) {
  low = std::min(low, other.low);
  high = std::max(high, other.high);
  is_finite &= other.is_finite;
}

void check_vertex_count(int64_t count) {
  if (count >= std::numeric_limits<int32_t>::max())
    fail_value(
        "the lattice would have more than 2^31 vertices; split the points, or use larger sigmas");
}

template <typename T>
void check_dim(const Features<T>& features) {
  if (features.dim() < 1 || features.dim() > kMaxDim)
    fail_value("features must have 1 to " + std::to_string(kMaxDim) + " dimensions, got " +
               std::to_string(features.dim()) + "; reduce them, for example by a projection");
}

template <typename T>
KeyLayout make_key_layout(const Grid& grid, const Features<T>& features,
                          const std::vector<ValueRange>& channels) {
  KeyLayout keys;
  keys.dim = features.dim();
  const std::vector<ValueRange> y = elevated_ranges(feature_ranges(grid, features, channels));
  const double size = keys.dim + 1;
  int word = 0, used = kRemainderBits;
  double furthest = 0;
  for (int i = 0; i <= keys.dim; ++i) {
    const ValueRange& range = y[static_cast<size_t>(i)];
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
  keys.num_bits = used;
  keys.needs_double = furthest > kMaxFloatRange;
  return keys;
}

#define DF_INSTANTIATE(T)                                             \
  template void check_dim(const Features<T>&);                        \
  template KeyLayout make_key_layout(const Grid&, const Features<T>&, \
                                     const std::vector<ValueRange>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield
