// What the reverse pass asks of a backend, maths §6: arguments of the functions in backend.h.
#pragma once

#include <cstdint>
#include <span>

#include "densefield/lattice.h"
#include "densefield/normalization.h"
#include "densefield/update_scratch.h"

namespace densefield {

template <typename T>
struct CompatibilityTable;  // backend.h
template <typename T>
struct LatticeKernel;

// One kernel's part in a reverse pass. With z the scores that a softmax is taken of, q the
// marginals of the update before, and A the compatibility:
// message = K~ q - self q,  dL/dmessage = -A^T dL/dz.
template <typename T>
struct ReverseKernel {
  const LatticeKernel<T>* kernel;
  const CompatibilityTable<T>* compatibility;             // A
  const CompatibilityTable<T>* transposed_compatibility;  // A^T
  // In: B^T S^T diag(post) grad_scores; out: S^T diag(post) of the new grad_scores.
  VertexRows<T>* reversed;
  // B S^T diag(pre) q: for the gradients of weights and scales below; or nullptr.
  VertexRows<T>* forward;
  // Added to: by A. [1], [stride], or [num_labels, stride] row by row, (l, l').
  double* grad_compatibility;
  // Added to, each may be nullptr.
  T* grad_weight;  // [N, corners] by the barycentric weights
  T* grad_pre;     // [N]
  T* grad_post;    // [N]
  T* grad_self;    // [N]
};

// One mean-field update backwards: from dL/dz of an update to dL/dz of the one before it.
template <typename T>
struct MeanFieldReversePass {
  const NodeLayout* layout;
  int64_t num_labels;
  std::span<const ReverseKernel<T>> kernels;
  bool has_messages;   // false: no update follows, grad_scores is dL/dq itself
  bool of_scores;      // without messages: grad_scores is dL/dz already
  bool splats;         // false: no update comes before
  const T* marginals;  // [N, stride] q
  T* grad_scores;      // [N, stride] in: dL/dz of the later update; out: dL/dz of q's softmax
  T* grad_unary;       // [N, stride] added to: -dL/dz
  UpdateScratch<T>* scratch;  // of make_reverse_scratch
};

// From a kernel's two scales and its diagonal back to n = K 1, maths §3.
template <typename T>
struct ScaleGradient {
  Normalization normalization;
  T slice_scale;
  int64_t num_nodes;
  const T* pre;        // [N]
  const T* post;       // [N]
  const T* diagonal;   // [N] of K, slice scale included; or nullptr
  T* grad_pre;         // [N] in/out: the part through `self` is added
  T* grad_post;        // [N] in/out
  const T* grad_self;  // [N] by diag(K~), where `diagonal` is given
  int64_t stride;
  T* grad_norm;      // [N, stride] out: by n in channel 0, then 0
  T* grad_diagonal;  // [N] out, where `diagonal` is given
};

// Where the gradient by the features goes. All are added to.
template <typename T>
struct FeatureGradient {
  NodeView<T> values;      // by Features::values; data may be nullptr
  double* sigma_position;  // as in Features; or nullptr
  double* sigma_value;     // as in Features; or nullptr
};

}  // namespace densefield
