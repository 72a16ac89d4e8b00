// Steps of an update backwards, maths §6, that lattices and windows share.
#pragma once

#include <vector>

#include "densefield/compatibility_form.h"
#include "memory.cuh"

namespace densefield::cuda {

// rows = or -= A from, for A by columns in the form of the table.
template <typename T>
void multiply_table(DeviceMemory&, CompatibilityForm,
                    const T* table,  // [1], [L] or [L, L]
                    const T* from,   // [N, L]
                    int64_t num_rows, int64_t num_labels, bool subtracts,
                    T* to);  // [N, L] in, out

// to = from - self later: the node's own part of a message left out. `to` may be `from`.
template <typename T>
void subtract_self(DeviceMemory&,
                   const T* from,   // [N, L]
                   const T* self,   // [N]
                   const T* later,  // [N, L]
                   int64_t num_nodes, int64_t num_labels,
                   T* to);  // [N, L] out

// From the gradient by the marginals to that by what they are the softmax of. Without marginals
// (nullptr) there is no softmax between the two.
template <typename T>
void reverse_softmax(DeviceMemory&,
                     const T* marginals,  // [N, L]
                     const T* grad,       // [N, L]
                     int64_t num_nodes, int64_t num_labels,
                     T* grad_scores,  // [N, L] out, may be `grad`
                     T* grad_unary);  // [N, L], the gradient is subtracted from it

// Gradients by compatibilities, sums over all nodes, on their way to the host: it waits once in
// an update, when all else has been asked of the device.
class TableSums {
 public:
  // Takes memory for one sum by a table of each form.
  TableSums(DeviceMemory&, const std::vector<CompatibilityForm>& forms, int64_t num_nodes,
            int64_t num_labels);

  // to -= sum over the nodes of filtered q^T, or what of it the table has, when it is finished.
  template <typename T>
  void subtract(DeviceMemory&, CompatibilityForm,
                const T* filtered,   // [N, L]
                const T* marginals,  // [N, L] q
                double* to);         // [1], [L] or [L, L], on the host
  void finish(DeviceMemory&);

 private:
  struct Sum {
    CompatibilityForm form;
    int64_t first, end;  // of totals_
    double* to;
  };

  int64_t num_nodes_;
  int64_t num_labels_;
  Buffer<double> parts_;   // [parts, entries] of one sum
  Buffer<double> totals_;  // of all sums of an update, one behind the other
  std::vector<Sum> sums_;  // that are not finished
};

}  // namespace densefield::cuda
