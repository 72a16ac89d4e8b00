// Message passing of the window kernel, maths §5, compiled once per instruction set by
// window_<level>.cpp. Everything has internal linkage, as in kernels-inl.h.
#pragma once

#include <type_traits>

#include "../../core/window.h"
#include "lanes-inl.h"
#include "window_gradient-inl.h"
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

// Hides where a pointer comes from: otherwise GCC keeps every multiple of the stride that
// is added to it on the stack, and a quarter of the speed is lost.
template <typename T>
DF_HD void forget_origin(const T*& pointer) {
  asm("" : "+r"(pointer));
}

// Sums of P neighbouring pixels and NV vectors of channels, held in registers. A value row
// is loaded once and used for every pixel that has it in its window.
template <typename T, int NV, int P, typename Stride>
struct Tile {
  Vec<T> sum[P][NV];
  const Stride stride;  // elements of a value row: int64_t, or a constant where it is known

  DF_HD void clear() {
    unrolled<0, P>([&](auto p) __attribute__((always_inline)) {
      unrolled<0, NV>([&](auto v) __attribute__((always_inline)) { sum[p][v] = Vec<T>{}; });
    });
  }

  // Adds Taps neighbours: value row number s is tap s - p of pixel p.
  // weight: [Taps, kWindowBlock], at pixel 0
  template <int Taps>
  DF_HD void add_taps(const T* value, const T* weight) {
    forget_origin(value);
    forget_origin(weight);
    unrolled<0, Taps + P - 1>([&](auto s) __attribute__((always_inline)) {
      constexpr int kFirst = s < Taps ? 0 : s - Taps + 1, kLast = s < P ? s + 1 : P;
      Vec<T> x[NV];
      unrolled<0, NV>([&](auto v) __attribute__((always_inline)) {
        x[v] = load_unaligned(value + v * kLanes<T>);
      });
      value += stride;
      if constexpr (std::is_same_v<Stride, int64_t>) forget_origin(value);
      unrolled<kFirst, kLast>([&](auto p) __attribute__((always_inline)) {
        const Vec<T> w = broadcast(weight[(s - p) * kWindowBlock + p]);
        unrolled<0, NV>([&](auto v) __attribute__((always_inline)) { sum[p][v] += w * x[v]; });
      });
    });
  }

  // Straight code for every usual number of taps; long segments in parts. Double precision,
  // which is seldom asked for, takes shorter parts: half of the code.
  DF_HD void add_segment(const T* value, int64_t taps, const T* weight) {
    constexpr bool kIsUsual = sizeof(T) == 4;
    constexpr int kPart = 8, kLongest = kIsUsual ? 11 : 7;
    for (; taps > kLongest; taps -= kPart) {
      add_taps<kPart>(value, weight);
      value += kPart * stride;
      weight += kPart * kWindowBlock;
    }
    switch (taps) {
      case 1: return add_taps<1>(value, weight);
      case 3: return add_taps<3>(value, weight);
      case 5: return add_taps<5>(value, weight);
      case 7: return add_taps<7>(value, weight);
      default: break;
    }
    if constexpr (kIsUsual) {
      if (taps == 9) return add_taps<9>(value, weight);
      if (taps == 11) return add_taps<11>(value, weight);
    }
  }

  DF_HD void save(T* out) const {
    unrolled<0, P>([&](auto p) __attribute__((always_inline)) {
      unrolled<0, NV>([&](auto v) __attribute__((always_inline)) {
        store_unaligned(out + p * stride + v * kLanes<T>, sum[p][v]);
      });
    });
  }
};

// Asks for the weights of a later block, part `first` / kWindowBlock of a segment's: they come
// from memory once, and the processor's own prefetcher stops at the end of every page.
template <typename T>
DF_HD void prefetch_weights(const T* segment, int64_t num_taps, int64_t first, int64_t pixels) {
  constexpr int64_t kAhead = 6144, kLine = 64;  // bytes; 4 to 8 KB were equal (measured)
  constexpr int64_t kTapBytes = kWindowBlock * static_cast<int64_t>(sizeof(T));
  const char* line = reinterpret_cast<const char*>(segment) + kAhead +
                     first * num_taps * static_cast<int64_t>(sizeof(T));
  const int64_t bytes = num_taps * kTapBytes * pixels / kWindowBlock;
  for (int64_t b = 0; b < bytes; b += kLine) __builtin_prefetch(line + b);
}

// One piece of NV vectors of channels for the block of pixels at x. Not inlined, so that
// nothing else asks for registers.
template <typename T, int NV, int P, typename Stride>
__attribute__((noinline)) void message_piece(const WindowRow<T>& row, int64_t x, const T* block,
                                             int64_t offset, Stride stride, T* out) {
  static_assert(kWindowBlock % P == 0, "tiles fill a block");
  for (int64_t first = 0; first < kWindowBlock; first += P) {
    Tile<T, NV, P, Stride> tile{{}, stride};
    tile.clear();
    for (int s = 0; s < row.num_segments; ++s) {
      const WindowSegment<T> segment = row.segments[s];
      const T* weights = block + segment.first_tap * kWindowBlock;
      if (offset == 0) prefetch_weights(weights, segment.num_taps, first, P);
      tile.add_segment(segment.values + (x + first) * stride + offset, segment.num_taps,
                       weights + first);
    }
    tile.save(out + first * stride + offset);
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

template <int NV>
constexpr int kTile = NV == 1 ? kNarrowTile : kWideTile;

// Rows of NV vectors, whose stride is a constant.
template <typename T, int NV>
void narrow_message(const WindowRow<T>& row, T* out) {
  constexpr std::integral_constant<int64_t, NV * kLanes<T>> kStride;
  const T* block = row.weights;
  for (int64_t x = row.begin; x < row.end; x += kWindowBlock) {
    message_piece<T, NV, kTile<NV>>(row, x, block, 0, kStride, out + (x - row.begin) * kStride);
    block += row.num_taps * kWindowBlock;
  }
}

template <typename T>
void wide_message(const WindowRow<T>& row, int64_t stride, T* out) {
  constexpr int kMostVectors = sizeof(T) == 4 ? 3 : 2;
  const T* block = row.weights;
  for (int64_t x = row.begin; x < row.end; x += kWindowBlock) {
    const auto piece = [&](auto vectors, int64_t first) {
      message_piece<T, vectors, kTile<vectors>>(row, x, block, first * kLanes<T>, stride,
                                                out + (x - row.begin) * stride);
      return first + vectors;
    };
    // As many vectors at a time as there are registers for, but two and two rather than three
    // and one.
    const int64_t vectors = stride / kLanes<T>;
    for (int64_t v = 0; v < vectors;) {
      if (vectors - v == 1)
        v = piece(std::integral_constant<int, 1>{}, v);
      else if (vectors - v == 2 || vectors - v == 4)
        v = piece(std::integral_constant<int, 2>{}, v);
      else
        v = piece(std::integral_constant<int, kMostVectors>{}, v);
    }
    block += row.num_taps * kWindowBlock;
  }
}

template <typename T>
void message(const WindowRow<T>& row, int64_t stride, T* out) {
  if constexpr (sizeof(T) == 4) switch (stride / kLanes<T>) {
      case 1: return narrow_message<T, 1>(row, out);
      case 2: return narrow_message<T, 2>(row, out);
      case 3: return narrow_message<T, 3>(row, out);
      default: break;
    }
  wide_message(row, stride, out);
}

template <typename T>
void weight_sums(int64_t width, int64_t num_sources, const T* const* source, T* out) {
  for (int64_t x = 0; x < width; x += kLanes<T>) {
    Vec<T> sum = {};
    for (int64_t s = 0; s < num_sources; ++s) sum += load_unaligned(source[s] + x);
    store_unaligned(out + x, sum);
  }
}

// A kernel's part in the weights of tap number s for a vector of pixels.
template <typename T>
DF_HD Vec<T> merged_weight(const WindowMergeTerm<T>& term, int64_t s, int64_t x) {
  const Vec<T> weight = term.scale * load_unaligned(term.source[s] + x);
  if (term.post == nullptr) return weight;
  return weight * (load_unaligned(term.post + x) * load_unaligned(term.pre[s] + x));
}

template <typename T>
void merge_weights(const WindowMerge<T>& row) {
  T* block = row.out;
  for (int64_t x = 0; x < row.width; x += kWindowBlock, block += row.num_taps * kWindowBlock)
    for (int64_t s = 0; s < row.num_sources; ++s)
      for (int64_t p = 0; p < kWindowBlock; p += kLanes<T>) {
        Vec<T> sum = merged_weight(row.terms[0], s, x + p);
        for (int m = 1; m < row.num_terms; ++m) sum += merged_weight(row.terms[m], s, x + p);
        store_unaligned(block + row.tap[s] * kWindowBlock + p, sum);
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
void transform(const WindowTransform<T>& task) {
  for (int64_t p = 0; p < task.count; ++p) {
    const T* row = task.rows + p * task.stride;
    T* out = task.out + p * task.stride;
    if (task.form == CompatibilityForm::matrix) {
      for (int64_t c = 0; c < task.stride; c += kLanes<T>)
        store_unaligned(task.scratch + c, load_unaligned(row + c));
      row = task.scratch;
    }
    for (int64_t c = 0; c < task.stride; c += kLanes<T>) {
      Vec<T> sum = {};
      if (task.form == CompatibilityForm::matrix)
        for (int64_t label = 0; label < task.num_labels; ++label)
          sum += broadcast(row[label]) * load_unaligned(task.table + label * task.stride + c);
      else
        sum = load_unaligned(row + c) * (task.form == CompatibilityForm::scalar
                                             ? broadcast(task.table[0])
                                             : load_unaligned(task.table + c));
      store_unaligned(out + c, task.adds ? load_unaligned(out + c) + sum : sum);
    }
  }
}

// Elements of a sum of rows; V: a vector, or one element at the end.
template <typename V, typename T>
DF_HD V sum_of_rows(const WindowRowSum<T>& task, int64_t e) {
  typedef V Anywhere __attribute__((may_alias, aligned(sizeof(T))));
  V sum = {};
  for (int64_t r = 0; r < task.num_rows; ++r) {
    const V x = *reinterpret_cast<const Anywhere*>(task.from + r * task.pitch + e);
    sum += task.weight == nullptr ? x : task.weight[r] * x;
  }
  return task.scale * sum;
}

template <typename T>
void sum_rows(const WindowRowSum<T>& task) {
  const int64_t whole = task.count / kLanes<T> * kLanes<T>;
  for (int64_t e = 0; e < whole; e += kLanes<T>)
    store_unaligned(task.to + e, sum_of_rows<Vec<T>>(task, e));
  for (int64_t e = whole; e < task.count; ++e) task.to[e] = sum_of_rows<T>(task, e);
}

template <typename T>
void interpolate(const WindowInterpolation<T>& task) {
  const int64_t whole = task.stride / kLanes<T> * kLanes<T>;
  for (int64_t p = 0; p < task.count; ++p) {
    const CellPair<T> pair = task.pairs[p];
    const T of_high = pair.share, of_low = T(1) - of_high;
    const T post = task.post != nullptr ? task.post[p] : T(1);
    const T* low = task.cells + pair.low * task.stride;
    const T* high = task.cells + pair.high * task.stride;
    T* to = task.to + p * task.stride;
    for (int64_t c = 0; c < whole; c += kLanes<T>)
      store_unaligned(
          to + c, post * (of_low * load_unaligned(low + c) + of_high * load_unaligned(high + c)));
    for (int64_t c = whole; c < task.stride; ++c)
      to[c] = post * (of_low * low[c] + of_high * high[c]);
  }
}

template <typename T>
WindowKernels<T> make_window_kernels() {
  return {&message<T>,        &weight_sums<T>,      &tap_weights<T>, &merge_weights<T>,
          &transform<T>,      &sum_rows<T>,         &interpolate<T>, &add_products<T>,
          &add_scale_sums<T>, &add_feature_sums<T>, &reverse_rows<T>};
}

}  // namespace
}  // namespace densefield::simd
