// The raw weights of one kernel for a band of grid rows, on the way into a window table.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "densefield/threads.h"
#include "window_features.h"
#include "window_table.h"

namespace densefield::cpu {

// Planes of one tap each, row by row: [rows, planes, pitch], 0 where a neighbour is outside.
// A Gaussian is symmetric: the taps from the centre on are computed, the others are read at
// the neighbour. Only the rows that one row reads are held: a later row takes the place of
// the earliest. A place of a row that is outside every time keeps its 0.
template <typename T>
class WindowPlanes {
 public:
  // Rows of a band: few enough for balance, many against those that neighbours share.
  static int64_t band_rows(const WindowGeometry& geometry) {
    constexpr int64_t kRows = 32;
    constexpr int64_t kPerShared = 4;
    return std::max(kRows, kPerShared * shared_rows(geometry));
  }

  // For a band that starts at `first`.
  WindowPlanes(const CpuWindowTable<T>& table, const WindowFeatures<T>& features, int64_t first)
      : geometry_(table.geometry),
        features_(features),
        next_(std::max<int64_t>(0, first - shared_rows(geometry_))),
        lead_(whole_blocks(geometry_.radius)),
        pitch_(lead_ + whole_blocks(geometry_.extent[2] + geometry_.radius) + simd::kWindowBlock),
        weights_(host_memory(), num_held() * num_planes() * pitch_) {
    std::memset(weights_.data(), 0, static_cast<size_t>(weights_.num_bytes()));
  }

  // Computes what is missing up to `row`; rows must rise.
  void advance_to(int64_t row) {
    for (; next_ <= row; ++next_) compute_row(next_);
  }

  // Calls body(span, tap, dx, weights at the row's pixel 0) for all neighbours that exist, of
  // the row that was advanced to.
  template <typename Body>
  void for_taps(int64_t row, Body body) const {
    for (const WindowRowSpan& span : geometry_.spans) {
      if (!geometry_.has_neighbour_row(row, span)) continue;
      const int64_t neighbour = row + geometry_.row_distance(span);
      for (int64_t dx = -span.radius; dx <= span.radius; ++dx) {
        const int64_t tap = span.first_tap + span.radius + dx, plane = tap - geometry_.centre();
        body(span, tap, dx, plane >= 0 ? plane_row(row, plane) : plane_row(neighbour, -plane) + dx);
      }
    }
  }

 private:
  static int64_t shared_rows(const WindowGeometry& geometry) {
    return -geometry.row_distance(geometry.spans.front());
  }
  int64_t num_held() const { return std::min(shared_rows(geometry_) + 1, geometry_.num_rows()); }
  int64_t num_planes() const { return geometry_.num_taps / 2 + 1; }
  const T* plane_row(int64_t row, int64_t plane) const {
    return weights_.data() + (row % num_held() * num_planes() + plane) * pitch_ + lead_;
  }

  void compute_row(int64_t row) {
    const int64_t width = geometry_.extent[2];
    std::vector<const T*> here(features_.inverse_sigma.size()), there(here.size());
    for (const WindowRowSpan& span : geometry_.spans) {
      if (!geometry_.has_neighbour_row(row, span)) continue;
      const int64_t neighbour = row + geometry_.row_distance(span);
      const double between_rows = features_.squared_between_rows(row, span);
      for (int64_t dx = -span.radius; dx <= span.radius; ++dx) {
        const int64_t plane = span.first_tap + span.radius + dx - geometry_.centre();
        if (plane < 0) continue;
        for (size_t c = 0; c < here.size(); ++c) {
          here[c] = features_.plane(c) + row * width;
          there[c] = features_.plane(c) + neighbour * width + dx;
        }
        simd::window_kernels<T>().tap_weights(
            {std::max<int64_t>(0, -dx), std::min(width, width - dx), static_cast<int>(here.size()),
             here.data(), there.data(), features_.inverse_sigma.data(),
             T(between_rows + features_.squared_along_row(dx)),
             const_cast<T*>(plane_row(row, plane))});
      }
    }
  }

  const WindowGeometry& geometry_;
  const WindowFeatures<T>& features_;
  int64_t next_;         // the first row that is not computed
  const int64_t lead_;   // zeros before a row
  const int64_t pitch_;  // of a row with its zeros
  Buffer<T> weights_;
};

// body(planes, row) with the weights of some kernels, planes[m] those of features[m], for all
// rows, band by band, in parallel.
template <typename T, typename Body>
void for_bands(const CpuWindowTable<T>& table, std::span<const WindowFeatures<T>* const> features,
               Body body) {
  const int64_t rows = table.geometry.num_rows(), step = WindowPlanes<T>::band_rows(table.geometry);
  parallel_for((rows + step - 1) / step, [&](int64_t band, int) {
    const int64_t last = std::min(rows, (band + 1) * step);
    std::vector<WindowPlanes<T>> planes;
    for (const WindowFeatures<T>* of_kernel : features)
      planes.emplace_back(table, *of_kernel, band * step);
    for (int64_t row = band * step; row < last; ++row) {
      for (WindowPlanes<T>& of_kernel : planes) of_kernel.advance_to(row);
      body(planes, row);
    }
  });
}

// body(planes, row) with the weights of one kernel.
template <typename T, typename Body>
void for_bands(const CpuWindowTable<T>& table, const WindowFeatures<T>& features, Body body) {
  const WindowFeatures<T>* only[] = {&features};
  for_bands<T>(
      table, std::span<const WindowFeatures<T>* const>(only),
      [&](const std::vector<WindowPlanes<T>>& planes, int64_t row) { body(planes.front(), row); });
}

}  // namespace densefield::cpu
