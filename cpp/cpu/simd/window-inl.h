// Message passing of the window kernel, maths §5, compiled once per instruction set by
// window_<level>.cpp. Everything has internal linkage, as in kernels-inl.h.
#pragma once

#include "../../core/window.h"
#include "lanes-inl.h"
#include "window_kernels.h"

namespace densefield::simd {
namespace {

// body(integral constant) for First .. Last - 1.
template <int First, int Last, typename Body>
DF_HD void unrolled(Body body) {
  if constexpr (First < Last) {
    body(std::integral_constant<int, First>{});
    unrolled<First + 1, Last>(body);
  }
}

constexpr int clamp_low(int x, int low) { return x < low ? low : x; }
constexpr int clamp_high(int x, int high) { return x > high ? high : x; }

// Sums of P neighbouring pixels and NV vectors of channels, held in registers. A value row
// is loaded once and used for every pixel that has it in its window.
template <typename T, int NV, int P>
struct Tile {
  Vec<T> sum[P][NV];

  DF_HD void clear() {
    unrolled<0, P>([&](auto p) __attribute__((always_inline)) {
      unrolled<0, NV>([&](auto v) __attribute__((always_inline)) { sum[p][v] = Vec<T>{}; });
    });
  }

  // Value row number s of a segment is tap s - p of pixel p; p from First to Last - 1.
  // `weights` points at tap s of pixel 0: pixel p's is p taps earlier and p entries later.
  template <int First, int Last>
  DF_HD void add(const T* value, const T* weights) {
    Vec<T> x[NV];
    unrolled<0, NV>([&](auto v) __attribute__((always_inline)) {
      x[v] = load_unaligned(value + v * kLanes<T>);
    });
    unrolled<First, Last>([&](auto p) __attribute__((always_inline)) {
      const Vec<T> w = broadcast(weights[p * (1 - kWindowBlock)]);
      unrolled<0, NV>([&](auto v) __attribute__((always_inline)) { sum[p][v] += w * x[v]; });
    });
  }

  template <int Taps>
  DF_HD void add_short_segment(const T* value, int64_t stride, const T* weights) {
    unrolled<0, Taps + P - 1>([&](auto s) __attribute__((always_inline)) {
      add<clamp_low(s - Taps + 1, 0), clamp_high(s + 1, P)>(value + s * stride,
                                                            weights + s * kWindowBlock);
    });
  }

  // A segment may have fewer taps than the tile has pixels.
  DF_HD void add_segment(const T* value, int64_t stride, int64_t taps, const T* weights) {
    if (taps == 1) return add_short_segment<1>(value, stride, weights);
    if (P > 2 && taps == 3) return add_short_segment<3>(value, stride, weights);
    if (P > 4 && taps == 5) return add_short_segment<5>(value, stride, weights);
    if (P > 4 && taps == 7) return add_short_segment<7>(value, stride, weights);
    unrolled<0, P - 1>([&](auto s) __attribute__((always_inline)) {
      add<0, s + 1>(value + s * stride, weights + s * kWindowBlock);
    });
    value += (P - 1) * stride;
    weights += (P - 1) * kWindowBlock;
    for (int64_t s = P - 1; s < taps; ++s, value += stride, weights += kWindowBlock)
      add<0, P>(value, weights);
    unrolled<1, P>([&](auto first) __attribute__((always_inline)) {
      add<first, P>(value + (first - 1) * stride, weights + (first - 1) * kWindowBlock);
    });
  }

  DF_HD void save(T* out, int64_t stride) const {
    unrolled<0, P>([&](auto p) __attribute__((always_inline)) {
      unrolled<0, NV>([&](auto v) __attribute__((always_inline)) {
        store_unaligned(out + p * stride + v * kLanes<T>, sum[p][v]);
      });
    });
  }
};

// One piece of NV vectors of channels for the block of pixels at x.
template <typename T, int NV, int P>
DF_HD void message_piece(const WindowRow<T>& row, int64_t x, const T* block, int64_t offset,
                         int64_t stride, T* out) {
  static_assert(kWindowBlock % P == 0, "tiles fill a block");
  for (int64_t first = 0; first < kWindowBlock; first += P) {
    Tile<T, NV, P> tile;
    tile.clear();
    for (int s = 0; s < row.num_segments; ++s) {
      const WindowSegment<T> segment = row.segments[s];
      tile.add_segment(segment.values + (x + first) * stride + offset, stride, segment.num_taps,
                       block + first + segment.first_tap * kWindowBlock);
    }
    tile.save(out + first * stride + offset, stride);
  }
}

// Pixels of a tile by the registers that there are: sums, one row of values, one weight.
#if defined(__AVX512VL__)
constexpr int kWideTile = 8;
constexpr int kNarrowTile = 8;
#elif defined(__AVX2__)
constexpr int kWideTile = 4;
constexpr int kNarrowTile = 8;
#else
constexpr int kWideTile = 2;
constexpr int kNarrowTile = 4;
#endif

template <typename T>
void message(const WindowRow<T>& row, int64_t stride, T* out) {
  constexpr int64_t kPiece = 3 * kLanes<T>;
  const T* block = row.weights;
  for (int64_t x = row.begin; x < row.end; x += kWindowBlock) {
    T* to = out + (x - row.begin) * stride;
    int64_t offset = 0;
    for (; stride - offset >= kPiece; offset += kPiece)
      message_piece<T, 3, kWideTile>(row, x, block, offset, stride, to);
    if (stride - offset == 2 * kLanes<T>)
      message_piece<T, 2, kWideTile>(row, x, block, offset, stride, to);
    else if (stride - offset == kLanes<T>)
      message_piece<T, 1, kNarrowTile>(row, x, block, offset, stride, to);
    block += row.num_taps * kWindowBlock;
  }
}

template <typename T>
void weight_sums(const WindowMerge<T>& row, T* out) {
  for (int64_t x = 0; x < row.width; x += kLanes<T>) {
    Vec<T> sum = {};
    for (int64_t s = 0; s < row.num_sources; ++s) sum += load_unaligned(row.source[s] + x);
    store_unaligned(out + x, sum);
  }
}

template <typename T>
void merge_weights(const WindowMerge<T>& row) {
  T* block = row.out;
  for (int64_t x = 0; x < row.width; x += kWindowBlock, block += row.num_taps * kWindowBlock)
    for (int64_t s = 0; s < row.num_sources; ++s)
      for (int64_t p = 0; p < kWindowBlock; p += kLanes<T>) {
        Vec<T> weight = row.scale * load_unaligned(row.source[s] + x + p);
        if (row.post != nullptr)
          weight *= load_unaligned(row.post + x + p) * load_unaligned(row.pre[s] + x + p);
        T* to = block + row.tap[s] * kWindowBlock + p;
        store_unaligned(to, row.adds ? load_unaligned(to) + weight : weight);
      }
}

// Calls body(x, lanes) for every vector of [begin, end); the last one may have fewer lanes in
// use. It is computed as all others are: a pixel's bits do not depend on its place.
template <typename T, typename Body>
DF_HD void for_vectors(int64_t begin, int64_t end, T* out, Body body) {
  for (int64_t x = begin; x < end; x += kLanes<T>) {
    const Vec<T> result = body(x);
    if (end - x >= kLanes<T>)
      store_unaligned(out + x, result);
    else
      for (int64_t lane = 0; lane < end - x; ++lane) out[x + lane] = result[lane];
  }
}

template <typename T, int Channels>
void tap_weights_of(const WindowTap<T>& tap) {
  const int channels = Channels > 0 ? Channels : tap.num_channels;
  for_vectors(tap.begin, tap.end, tap.out, [&](int64_t x) {
    Vec<T> squared = broadcast(tap.squared);
    for (int c = 0; c < channels; ++c)
      squared += squared_step(load_unaligned(tap.here[c] + x), load_unaligned(tap.there[c] + x),
                              tap.inverse_sigma[c]);
    return window_weight(squared);
  });
}

template <typename T>
void tap_weights(const WindowTap<T>& tap) {
  switch (tap.num_channels) {
    case 0: {
      const Vec<T> weight = window_weight(broadcast(tap.squared));
      for_vectors(tap.begin, tap.end, tap.out, [&](int64_t) { return weight; });
      return;
    }
    case 1: return tap_weights_of<T, 1>(tap);
    case 3: return tap_weights_of<T, 3>(tap);
    default: return tap_weights_of<T, 0>(tap);
  }
}

template <typename T>
void transform(int form, const T* table, int64_t num_labels, int64_t count, int64_t stride,
               T* scratch, T* rows) {
  for (int64_t p = 0; p < count; ++p) {
    T* row = rows + p * stride;
    for (int64_t c = 0; c < stride; c += kLanes<T>)
      store_unaligned(scratch + c, form == 1 ? load_unaligned(row + c) * load_unaligned(table + c)
                                             : load_unaligned(row + c));
    for (int64_t c = 0; c < stride; c += kLanes<T>) {
      Vec<T> sum = form == 1 ? load_unaligned(scratch + c) : Vec<T>{};
      if (form != 1)
        for (int64_t label = 0; label < num_labels; ++label)
          sum += broadcast(scratch[label]) * load_unaligned(table + label * stride + c);
      store_unaligned(row + c, sum);
    }
  }
}

template <typename T>
WindowKernels<T> make_window_kernels() {
  return {&message<T>, &weight_sums<T>, &tap_weights<T>, &merge_weights<T>, &transform<T>};
}

}  // namespace
}  // namespace densefield::simd
