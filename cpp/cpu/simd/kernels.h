// The inner loops of the CPU backend as tables of functions, one table per instruction
// set. Rows of values are padded to whole 32-byte vectors and aligned to 32 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "../../core/portable.h"
#include "densefield/compatibility_form.h"

namespace densefield::simd {

constexpr int64_t kRowBytes = 32;

// The channel at a place of a row; without an order, channels stay as they are.
DF_HD int64_t channel_at(const int32_t* order, int64_t place) {
  return order != nullptr ? order[place] : place;
}

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
  I* rank;           // [dim+1, plane] out; or nullptr, below 8 dimensions:
  I* packed_rank;    // [plane] out, sum of rank_i 16^i
  I* subset;         // [dim+1, plane] out, bit i of plane k is rank_i > d-k
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
constexpr int64_t kLineRows = kPassChunk + 2;  // nodes that as many neighbours lie between
constexpr int64_t kPassScratchRows = 1 + kPassChunk + kLineRows;

// Neighbours along the last axis of a spatial kernel's grid, core/grid_kernel.h. Across the
// other axes they lie between lines of nodes, one for each combination of corners.
constexpr int kMaxLines = 8;
template <typename T>
struct GridRun {
  int64_t length;
  int64_t position;          // of the first point along the last axis
  int64_t node;              // the first point's first corner among the nodes
  int64_t slot;              // and among those of the block's box
  T line_weight[kMaxLines];  // [num_lines]
};

// The points of one block and what they share.
template <typename T>
struct GridBlock {
  int64_t count;
  const GridRun<T>* runs;  // [num_runs]
  int64_t num_runs;
  int64_t step;            // grid steps between nodes of the last axis
  int num_corners;         // of a point along the last axis, 1 or 2
  const T* corner_weight;  // [step, 2] by position % step
  int num_lines;
  const int64_t* line_node;  // [num_lines] from the first line's nodes to each line's
  const int64_t* line_slot;  // [num_lines] the same in the block's box
};

// One kernel's part in a mean-field pass over one block.
template <typename T>
struct PassKernel {
  BlockCorners<T> corners;   // of a lattice
  const GridBlock<T>* grid;  // of a spatial kernel; nullptr: a lattice
  const T* vertices;         // blurred: the block's rows, or all nodes; nullptr: no message yet
  T* sums;                   // the block's own rows, in/out, marginals are added; or nullptr
  const T* pre;              // [count] scale of what is splatted
  const T* post;             // [count] scale of what is sliced
  const T* self;             // [count] share of a node's own marginal in its message; or nullptr
  bool is_first;             // of the block's kernels
  CompatibilityForm form;
  const T* compatibility;  // [1], [stride], or [num_labels, stride]: column l' first
};

// Finds the unary of a block's points chunk by chunk, where it is not in rows.
template <typename T>
struct UnaryReader {
  // Rows [count, stride] of the next `count` points, padded with infinity; until the next call.
  const T* (*next)(UnaryReader& self, int64_t count);
};

// For fields that leave out labels, PassLabels: a pass that does has a shorter `stride` than
// `node_stride`. Groups of labels are vectors of a row.
template <typename T>
struct PassPruning {
  T* term;        // PassLabels::term from the block's first node on; or nullptr
  int64_t plane;  // elements from one plane of it to the next
  // In/out, [stride]: vector v has PassLabels::share of group v so far, in any lane; or nullptr.
  T* share;
};

template <typename T>
struct PassBlock {
  int64_t count;
  int64_t stride;       // elements of a padded row of vertices and scores
  int64_t node_stride;  // and of a row of nodes: more, where labels are left out
  int64_t num_labels;
  int num_kernels;
  const PassKernel<T>* kernels;
  const T* unary;  // [count, node_stride], padding holds a large energy; or nullptr:
  UnaryReader<T>* unary_reader;
  const T* energy;    // [count, stride] pairwise energy of other operators; or nullptr
  const T* previous;  // [count, stride] marginals before the pass; or nullptr
  T* marginals;       // [count, node_stride] out, may be `previous`; or nullptr
  T* scratch;         // [kPassScratchRows, stride]
  T* change;          // out, largest |marginal - previous|; or nullptr
  bool wants_scores;  // what the softmax would be taken of, in place of marginals
  PassPruning<T> pruning;
};

// One kernel's part in a pass over a block of nodes with two labels. Rows are single values.
template <typename T>
struct BinaryPart {
  BlockCorners<T> corners;   // of a lattice
  const GridBlock<T>* grid;  // of a spatial kernel; nullptr: a lattice
  const T* vertices;         // as in PassKernel
  T* sums;
  const T* pre;   // [count]
  const T* post;  // [count]
  T coupling;     // what a message is multiplied by and subtracted from the score
};

template <typename T>
struct BinaryBlock {
  int64_t count;
  int num_kernels;
  const BinaryPart<T>* kernels;
  const T* score;  // [count]
  T* marginal_0;   // [count] out; or nullptr
  T* marginal_1;   // [count] out; or nullptr
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
  // Lists of rows of one array: slot[start[i]] .. slot[start[i+1] - 1] for i = begin .. end-1.
  // The first row becomes the sum of the list; all become the first; a chain is blurred.
  void (*join_rows)(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end, T* rows,
                    int64_t stride);
  void (*spread_rows)(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end,
                      T* rows, int64_t stride);
  void (*blur_chains)(const int64_t* start, const int32_t* slot, int64_t begin, int64_t end,
                      T* rows, int64_t stride);
  // The same two for a spatial kernel: into the block's box of nodes, from all nodes.
  // line: scratch, [kLineRows, stride].
  void (*grid_splat)(const GridBlock<T>&, const T* rows, const T* pre, T* box, int64_t stride,
                     T* line);
  void (*grid_slice)(const GridBlock<T>&, const T* nodes, const T* post, T scale, T* rows,
                     int64_t stride, T* line);
  // to += from
  void (*add_rows)(const T* from, int64_t count, T* to);
  // to[i] = tap[0] line[reach][i] + sum over r of tap[r] (line[reach-r][i] + line[reach+r][i])
  void (*filter_line)(const T* const* line, const T* tap, int64_t reach, int64_t count, T* to);
  void (*pass)(PassBlock<T>);
  void (*binary_pass)(const BinaryBlock<T>&);
  // rows[i][c] = from[channel_at(order, c) * channel_stride + i]; `padding` behind the last
  // channel.
  void (*load_rows)(const T* from, int64_t channel_stride, int64_t count, int64_t num_channels,
                    T padding, T* rows, int64_t stride, const int32_t* order);
  // to[i * num_channels + c] = from[c * channel_stride + i]
  void (*pack_rows)(const T* from, int64_t channel_stride, int64_t count, int64_t num_channels,
                    T* to);
  // to[channel_at(order, c) * channel_stride + i] = rows[i][c]
  void (*store_rows)(const T* rows, int64_t stride, int64_t count, int64_t num_channels, T* to,
                     int64_t channel_stride, const int32_t* order);
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
