// The inner loops of the CPU backend as tables of functions, one table per instruction
// set. Rows of values are padded to whole 32-byte vectors and aligned to 32 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace densefield::simd {

constexpr int64_t kRowBytes = 32;

// Embedding of points, maths §4 steps 1-3. Arrays are plane by plane: element (i, p) of
// point p lies at [i * plane + p]; planes are padded with anything to a multiple of
// kRowBytes.
template <typename T, typename I>
struct EmbedBlock {
  int dim;
  int64_t count;
  int64_t plane;
  const T* scale;    // [dim] of embedding_scales
  const T* feature;  // [dim, plane] in units of sigma
  T* weight;         // [dim+1, plane] out
  I* cell;           // [dim+1, plane] out
  I* rank;           // [dim+1, plane] out
};

// The points of one block and their corners among the block's own vertices.
template <typename T>
struct BlockCorners {
  int64_t count;
  int num_corners;         // dim + 1
  const T* weight;         // [count, num_corners] barycentric
  const uint16_t* corner;  // [count, num_corners] vertex within the block
};

// Points of a pass that are worked on together: 3 KB of scores for 21 labels.
constexpr int64_t kPassChunk = 32;
constexpr int64_t kPassScratchRows = kPassChunk + 2;

enum class CompatibilityKind { scalar, vector, matrix };

// One kernel's part in a mean-field pass over one block.
template <typename T>
struct PassKernel {
  BlockCorners<T> corners;
  const T* vertices;  // [num_block_vertices, stride] blurred; nullptr: no message yet
  T* sums;            // [num_block_vertices, stride] in/out, marginals are added; or nullptr
  const T* pre;       // [count] scale of what is splatted
  const T* post;      // [count] scale of what is sliced
  const T* self;      // [count] share of a node's own marginal in its message; or nullptr
  CompatibilityKind kind;
  const T* compatibility;  // [1], [stride], or [num_labels, stride]: column l' first
};

template <typename T>
struct PassBlock {
  int64_t count;
  int64_t stride;  // elements of a padded row
  int64_t num_labels;
  int num_kernels;
  const PassKernel<T>* kernels;
  const T* unary;     // [count, stride], padding holds a large energy
  const T* energy;    // [count, stride] pairwise energy of other operators; or nullptr
  const T* previous;  // [count, stride] marginals before the pass; or nullptr
  T* marginals;       // [count, stride] out, may be `previous`; or nullptr
  T* scratch;         // [kPassScratchRows, stride]
  T* change;          // out, largest |marginal - previous|; or nullptr
};

// A symmetric filter along one axis of a grid of nodes; outside the grid is 0.
template <typename T>
struct AxisFilter {
  int64_t begin, end;  // nodes to compute
  int64_t pitch;       // nodes from one to the next along the axis
  int64_t extent;      // nodes of the axis
  const T* tap;        // [num_taps] tap 0 is the centre
  int64_t num_taps;
  int64_t stride;
};

template <typename T>
struct Kernels {
  using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

  void (*embed)(const EmbedBlock<T, Integer>&);
  // sums[corner] += weight * pre * rows; pre may be nullptr.
  void (*splat)(const BlockCorners<T>&, const T* rows, const T* pre, T* sums, int64_t stride);
  // rows = scale * post * sum of weight * vertices[corner]; post may be nullptr.
  void (*slice)(const BlockCorners<T>&, const T* vertices, const T* post, T scale, T* rows,
                int64_t stride);
  // to[i] = from[index[i]]
  void (*gather_rows)(const int32_t* index, int64_t count, const T* from, T* to, int64_t stride);
  // to[v] = sum of from[member[m]], m = start[v] .. start[v+1]-1, in that order
  void (*sum_rows)(const int64_t* start, const int32_t* member, int64_t begin, int64_t end,
                   const T* from, T* to, int64_t stride);
  // Lists of rows of one array: slot[start[i]] .. slot[start[i+1] - 1] for i = begin .. end-1.
  // The first row becomes the sum of the list; all become the first; a chain is blurred.
  void (*join_rows)(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end, T* rows,
                    int64_t stride);
  void (*spread_rows)(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end,
                      T* rows, int64_t stride);
  void (*blur_chains)(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end,
                      T* rows, int64_t stride);
  void (*pass)(PassBlock<T>);
  void (*filter_axis)(const AxisFilter<T>&, const T* from, T* to);
  // rows[i][c] = from[c * channel_stride + i]; `padding` behind the last channel.
  void (*load_rows)(const T* from, int64_t channel_stride, int64_t count, int64_t num_channels,
                    T padding, T* rows, int64_t stride);
  // to[c * channel_stride + i] = rows[i][c]
  void (*store_rows)(const T* rows, int64_t stride, int64_t count, int64_t num_channels, T* to,
                     int64_t channel_stride);
};

template <typename T>
struct Level {
  const char* name;
  Kernels<T> kernels;
};

// The table in use: the best one the processor has, or what DENSEFIELD_ISA names.
template <typename T>
const Kernels<T>& kernels();
const char* level_name();
// Comma-separated names of the levels that this processor can run.
const char* available_levels();
// For tests: forces a level; an unknown or unavailable name is a ValueError.
void set_level(const char* name);

}  // namespace densefield::simd
