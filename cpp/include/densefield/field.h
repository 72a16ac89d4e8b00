// A mean-field inference in progress, whatever its kernels are.
#pragma once

#include <functional>

#include "densefield/view.h"

namespace densefield {

// The caller's array for a result. Asked for once, when the inference has given back what it
// needs no longer: an array that is made only then can lie in the same memory.
template <typename T>
using ResultPlace = std::function<NodeView<T>()>;

template <typename T>
class Field {
 public:
  virtual ~Field() = default;

  // One update. Returns max |change| if `wants_change`, which needs kept marginals.
  virtual T update(bool wants_change) = 0;
  // The last update: its result goes to the caller's array and no further one can follow.
  virtual void finish(const ResultPlace<T>& place) = 0;
  // Marginals of the latest update into the caller's array.
  virtual void store_marginals(NodeView<T> to) const = 0;
  // What an inference that ends now returns: no update follows.
  virtual void store_result(NodeView<T> to) { store_marginals(to); }
  // Replaces the marginals: the next update starts from these.
  virtual void load_marginals(NodeView<const T> from) = 0;
};

}  // namespace densefield
