// The inner loops of the reverse pass as tables of functions, like those of kernels.h.
#pragma once

#include "kernels.h"

namespace densefield::simd {

// Rows of scratch of a reverse pass: three for work on one point, the gradient and the filtered
// gradient of each point of a chunk, and a line of nodes.
constexpr int64_t kReverseWorkRows = 3;
constexpr int64_t kReverseScratchRows = kReverseWorkRows + 2 * kPassChunk + kLineRows;

// One kernel's part in a reverse pass over one block; ReverseKernel has the meaning.
template <typename T>
struct ReversePart {
  BlockCorners<T> corners;   // of a lattice
  const GridBlock<T>* grid;  // of a spatial kernel; nullptr: a lattice
  // Rows of the block's vertices, or of all nodes.
  const T* reversed;  // B^T S^T diag(post) grad; nullptr: no message
  const T* forward;   // B S^T diag(pre) q; nullptr: no gradients of the kernel
  T* sums;            // the block's own rows, in/out, new gradients are added; or nullptr
  const T* pre;       // [count]
  const T* post;      // [count]
  const T* self;      // [count] or nullptr
  CompatibilityForm form;
  const T* compatibility;      // A: [1], [stride], or [num_labels, stride]: column l' first
  const T* transposed;         // A^T likewise
  double* grad_compatibility;  // in/out: [1], [stride], or [num_labels, stride]: row l first
  T* grad_weight;              // [count, corners] in/out, where `forward` is there; or nullptr
  T* grad_pre;                 // [count] in/out, where `forward` is there; or nullptr
  T* grad_post;                // [count]
  T* grad_self;                // [count] in/out, where `self` and `forward` are there
};

template <typename T>
struct ReverseBlock {
  int64_t count;
  int64_t stride;
  int64_t num_labels;
  int num_kernels;
  const ReversePart<T>* kernels;
  bool has_messages;   // false: grad_scores holds the gradient by the marginals
  bool of_scores;      // grad_scores holds the gradient by what the softmax is taken of
  const T* marginals;  // [count, stride] padding 0
  T* grad_scores;      // [count, stride] in/out
  T* grad_unary;       // [count, stride] in/out
  T* scratch;          // [kReverseScratchRows, stride]
};

template <typename T>
struct ReverseKernels {
  void (*pass)(ReverseBlock<T>);
  // grad_weight[i][k] += scale * rows_i . vertices[corner k of i]
  void (*weight_gradient)(const BlockCorners<T>&, const T* rows, const T* vertices, T scale,
                          T* grad_weight, int64_t stride);
  // Sum over rows of gradients . A values; compatibility by columns, nullptr: A = 1.
  double (*product)(int64_t count, const T* values, const T* gradients, CompatibilityForm,
                    const T* compatibility, int64_t num_labels, T* scratch, int64_t stride);
};

// The table of the level in use.
template <typename T>
const ReverseKernels<T>& reverse_kernels();

#define DF_DECLARE_REVERSE_LEVEL(level)          \
  ReverseKernels<float> reverse_float_##level(); \
  ReverseKernels<double> reverse_double_##level();

DF_DECLARE_REVERSE_LEVEL(base)
#ifdef DF_X86_64
DF_DECLARE_REVERSE_LEVEL(avx2)
DF_DECLARE_REVERSE_LEVEL(avx512)
#endif

#undef DF_DECLARE_REVERSE_LEVEL

}  // namespace densefield::simd
