// What the reverse pass asks of a backend for window kernels, maths §5 "Gradients" and §6:
// arguments of the functions in backend.h.
#pragma once

#include <cstdint>
#include <span>

#include "densefield/window.h"

namespace densefield {

// One table's part in an update backwards. With z the scores that a softmax is taken of, q the
// marginals before the update, and A the compatibility:
// message = K~ q - self q,  dL/dmessage = -A^T dL/dz.
template <typename T>
struct WindowReverseKernel {
  const WindowTable<T>* table;                            // K~
  const T* self;                                          // [N], diagonal left out; or nullptr
  const CompatibilityTable<T>* transposed_compatibility;  // A^T
  T* filtered;  // [N, stride] spoiled: room for K~^T grad_scores
  // Added to: by A. [1], [stride], or [num_labels, stride] row by row, (l, l').
  double* grad_compatibility;
};

// One mean-field update backwards: from dL/dz to dL/dq, and on to the z that q is the softmax of.
template <typename T>
struct WindowReversePass {
  const NodeLayout* layout;
  int64_t num_labels;
  std::span<const WindowReverseKernel<T>> kernels;  // empty: grad_scores is dL/dq itself
  bool has_softmax;                                 // false: stops at dL/dq
  const T* marginals;                               // [N, stride] q
  T* grad_scores;             // [N, stride] with margins, in: dL/dz; out: dL/dz before
  T* grad_unary;              // [N, stride] -dL/dz is added to it
  UpdateScratch<T>* scratch;  // of make_window_reverse_scratch
};

// The gradient by the weights of a table: what one update adds, summed over updates because
// everything behind it is linear. Made by make_window_gradient; starts with 0.
template <typename T>
class WindowGradient {
 public:
  virtual ~WindowGradient() = default;
};

// Where the gradients of one term go. All but `weight` and the sigmas are added to.
template <typename T>
struct WindowTermGradient {
  const WindowTerm<T>* term;  // what the table was built from
  NodeView<T> values;         // by its features' values; data may be nullptr
  double* sigma_position;     // out, as in Features
  double* sigma_value;        // out
  double* weight;             // out
};

}  // namespace densefield
