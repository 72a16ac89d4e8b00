// Between channels-first memory and padded rows: transposition of square tiles in registers.
#pragma once

namespace densefield::simd {
namespace {

// Transposes 8 vectors of 8 floats in place: pairs, then pairs of pairs, then halves.
DF_HD void transpose_tile(FloatVector* r) {
  FloatVector t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      r[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      r[i + 2 * j + 1] =
          __builtin_shufflevector(t[i + j], t[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; ++i) {
    t[i] = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    t[i + 4] = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}

DF_HD void transpose_tile(DoubleVector* r) {
  DoubleVector t[4];
  for (int i = 0; i < 4; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 4, 2, 6);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 5, 3, 7);
  }
  for (int i = 0; i < 2; ++i) {
    r[i] = __builtin_shufflevector(t[i], t[i + 2], 0, 1, 4, 5);
    r[i + 2] = __builtin_shufflevector(t[i], t[i + 2], 2, 3, 6, 7);
  }
}

// rows[i][c] = from[channel_at(order, c) * channel_stride + i], padding behind the last channel.
template <typename T>
void load_rows(const T* from, int64_t channel_stride, int64_t count, int64_t num_channels,
               T padding, T* rows, int64_t stride, const int32_t* order) {
  constexpr int64_t kTile = kLanes<T>;
  const int64_t whole = count / kTile * kTile;
  for (int64_t c = 0; c < stride; c += kTile) {
    for (int64_t i = 0; i < whole; i += kTile) {
      Vec<T> tile[kTile];
      for (int64_t k = 0; k < kTile; ++k)
        tile[k] = c + k < num_channels
                      ? load_unaligned(from + channel_at(order, c + k) * channel_stride + i)
                      : broadcast(padding);
      transpose_tile(tile);
      for (int64_t k = 0; k < kTile; ++k) store(rows + (i + k) * stride + c, tile[k]);
    }
    for (int64_t i = whole; i < count; ++i)
      for (int64_t k = c; k < c + kTile; ++k)
        rows[i * stride + k] =
            k < num_channels ? from[channel_at(order, k) * channel_stride + i] : padding;
  }
}

// to[i * num_channels + c] = from[c * channel_stride + i]: rows without padding.
template <typename T>
void pack_rows(const T* from, int64_t channel_stride, int64_t count, int64_t num_channels, T* to) {
  constexpr int64_t kTile = kLanes<T>;
  int64_t i = 0;
  // A short row is stored as a whole vector; the next rows replace what was too much.
  if (num_channels <= kTile)
    for (; (i + kTile - 1) * num_channels + kTile <= count * num_channels; i += kTile) {
      Vec<T> tile[kTile] = {};
      for (int64_t c = 0; c < num_channels; ++c)
        tile[c] = load_unaligned(from + c * channel_stride + i);
      transpose_tile(tile);
      for (int64_t k = 0; k < kTile; ++k) store_unaligned(to + (i + k) * num_channels, tile[k]);
    }
  for (; i < count; ++i)
    for (int64_t c = 0; c < num_channels; ++c)
      to[i * num_channels + c] = from[c * channel_stride + i];
}

// to[channel_at(order, c) * channel_stride + i] = rows[i][c]
template <typename T>
void store_rows(const T* rows, int64_t stride, int64_t count, int64_t num_channels, T* to,
                int64_t channel_stride, const int32_t* order) {
  constexpr int64_t kTile = kLanes<T>;
  const int64_t whole = count / kTile * kTile;
  for (int64_t c = 0; c < num_channels; c += kTile) {
    for (int64_t i = 0; i < whole; i += kTile) {
      Vec<T> tile[kTile];
      for (int64_t k = 0; k < kTile; ++k) tile[k] = load(rows + (i + k) * stride + c);
      transpose_tile(tile);
      for (int64_t k = 0; k < kTile; ++k)
        if (c + k < num_channels)
          store_unaligned(to + channel_at(order, c + k) * channel_stride + i, tile[k]);
    }
    for (int64_t i = whole; i < count; ++i)
      for (int64_t k = c; k < c + kTile && k < num_channels; ++k)
        to[channel_at(order, k) * channel_stride + i] = rows[i * stride + k];
  }
}

}  // namespace
}  // namespace densefield::simd
