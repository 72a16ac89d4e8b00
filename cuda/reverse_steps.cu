// Steps of an update backwards. Limited by memory.
#include <algorithm>

#include "../cpp/core/softmax.h"
#include "launch.cuh"
#include "reduce.cuh"
#include "reverse_steps.cuh"

namespace densefield::cuda {
namespace {

template <typename T>
__global__ void multiply_table_kernel(CompatibilityForm form,
                                      const T* table,  // [1], [L] or [L, L] by columns
                                      const T* from,   // [N, L]
                                      int64_t num_rows, int64_t num_labels, bool subtracts,
                                      T* to) {  // [N, L] in, out
  const int64_t i = row_of_group();
  if (i >= num_rows) return;
  for (int64_t c = threadIdx.x; c < num_labels; c += blockDim.x) {
    const int64_t here = i * num_labels + c;
    T product = T(0);
    switch (form) {
      case CompatibilityForm::scalar: product = table[0] * from[here]; break;
      case CompatibilityForm::vector: product = table[c] * from[here]; break;
      case CompatibilityForm::matrix:
        for (int64_t l = 0; l < num_labels; ++l)
          product += from[i * num_labels + l] * table[l * num_labels + c];
    }
    to[here] = subtracts ? to[here] - product : product;
  }
}

// to = from - self later: the node's own part of a message left out.
template <typename T>
__global__ void subtract_self_kernel(const T* from,   // [N, L]
                                     const T* self,   // [N]
                                     const T* later,  // [N, L]
                                     int64_t num_nodes, int64_t num_labels,
                                     T* to) {  // [N, L] out, may be `from`
  const int64_t i = row_of_group();
  if (i >= num_nodes) return;
  for (int64_t c = threadIdx.x; c < num_labels; c += blockDim.x)
    to[i * num_labels + c] = from[i * num_labels + c] - self[i] * later[i * num_labels + c];
}

// Sums over a piece of the nodes of filtered(l) q(l'), for the entries that the table has; of a
// scalar table, those of a vector. One thread for each entry.
template <typename T>
__global__ void table_gradient_kernel(const T* filtered,   // [N, L]
                                      const T* marginals,  // [N, L]
                                      int64_t num_nodes, int64_t num_labels, int64_t num_entries,
                                      int64_t nodes_per_part,
                                      double* part) {  // [parts, entries] out
  const int64_t e = item_of_thread();
  if (e >= num_entries) return;
  const int64_t l = num_entries == num_labels ? e : e / num_labels;
  const int64_t k = num_entries == num_labels ? e : e % num_labels;
  const int64_t first = blockIdx.y * nodes_per_part;
  const int64_t end = first + nodes_per_part < num_nodes ? first + nodes_per_part : num_nodes;
  double sum = 0;
  for (int64_t i = first; i < end; ++i)
    sum += double(filtered[i * num_labels + l]) * double(marginals[i * num_labels + k]);
  part[blockIdx.y * num_entries + e] = sum;
}

__global__ void add_parts_kernel(const double* part,  // [parts, entries]
                                 int64_t num_parts, int64_t num_entries,
                                 double* total) {  // [entries] out
  const int64_t e = item_of_thread();
  if (e >= num_entries) return;
  double sum = 0;
  for (int64_t p = 0; p < num_parts; ++p) sum += part[p * num_entries + e];
  total[e] = sum;
}

template <typename T>
__global__ void softmax_gradient_kernel(const T* marginals,  // [N, L]; nullptr: no softmax
                                        const T* grad,       // [N, L] by the marginals
                                        int64_t num_nodes, int64_t num_labels,
                                        T* grad_scores,   // [N, L] out
                                        T* grad_unary) {  // [N, L] added to
  const int64_t i = row_of_group(), first = i * num_labels;
  if (i >= num_nodes) return;
  T mean = T(0);
  if (marginals != nullptr) {
    for (int64_t c = threadIdx.x; c < num_labels; c += blockDim.x)
      mean += grad[first + c] * marginals[first + c];
    mean = sum_of_group(mean, mask_of_group());
  }
  for (int64_t c = threadIdx.x; c < num_labels; c += blockDim.x) {
    T by_score = grad[first + c];
    if (marginals != nullptr) by_score = softmax_gradient(marginals[first + c], by_score, mean);
    grad_scores[first + c] = by_score;
    grad_unary[first + c] -= by_score;
  }
}

int64_t num_entries_of(CompatibilityForm form, int64_t num_labels) {
  return form == CompatibilityForm::matrix ? num_labels * num_labels : num_labels;
}

// Pieces of the nodes that are summed in parallel: as many as keep the device busy, unless a large
// matrix would fill its memory with them.
int64_t num_parts_of(int64_t num_entries, int64_t num_nodes) {
  constexpr int64_t kMostParts = 256, kMostValues = int64_t{1} << 22, kFewestNodes = 64;
  const int64_t wanted = (num_nodes + kFewestNodes - 1) / kFewestNodes;
  const int64_t fitting = std::max<int64_t>(1, kMostValues / std::max<int64_t>(1, num_entries));
  return std::min({wanted, kMostParts, fitting});
}

}  // namespace

template <typename T>
void multiply_table(DeviceMemory& memory, CompatibilityForm form, const T* table, const T* from,
                    int64_t num_rows, int64_t num_labels, bool subtracts, T* to) {
  if (num_rows * num_labels == 0) return;
  launch("multiply_table_kernel", multiply_table_kernel<T>, group_each(num_rows, num_labels),
         memory.stream(), form, table, from, num_rows, num_labels, subtracts, to);
}

template <typename T>
void subtract_self(DeviceMemory& memory, const T* from, const T* self, const T* later,
                   int64_t num_nodes, int64_t num_labels, T* to) {
  launch("subtract_self_kernel", subtract_self_kernel<T>, group_each(num_nodes, num_labels),
         memory.stream(), from, self, later, num_nodes, num_labels, to);
}

template <typename T>
void reverse_softmax(DeviceMemory& memory, const T* marginals, const T* grad, int64_t num_nodes,
                     int64_t num_labels, T* grad_scores, T* grad_unary) {
  launch("softmax_gradient_kernel", softmax_gradient_kernel<T>, group_each(num_nodes, num_labels),
         memory.stream(), marginals, grad, num_nodes, num_labels, grad_scores, grad_unary);
}

TableSums::TableSums(DeviceMemory& memory, const std::vector<CompatibilityForm>& forms,
                     int64_t num_nodes, int64_t num_labels)
    : num_nodes_(num_nodes), num_labels_(num_labels) {
  int64_t most_values = 0, num_totals = 0;
  for (CompatibilityForm form : forms) {
    const int64_t num_entries = num_entries_of(form, num_labels);
    most_values = std::max(most_values, num_parts_of(num_entries, num_nodes) * num_entries);
    num_totals += num_entries;
  }
  parts_ = Buffer<double>(memory, most_values);
  totals_ = Buffer<double>(memory, num_totals);
}

template <typename T>
void TableSums::subtract(DeviceMemory& memory, CompatibilityForm form, const T* filtered,
                         const T* marginals, double* to) {
  const int64_t num_entries = num_entries_of(form, num_labels_);
  const int64_t num_parts = num_parts_of(num_entries, num_nodes_);
  const int64_t nodes_per_part = (num_nodes_ + num_parts - 1) / num_parts;
  const int64_t first = sums_.empty() ? 0 : sums_.back().end;
  LaunchShape shape = one_each(num_entries);
  shape.grid.y = static_cast<unsigned>(num_parts);
  launch("table_gradient_kernel", table_gradient_kernel<T>, shape, memory.stream(), filtered,
         marginals, num_nodes_, num_labels_, num_entries, nodes_per_part, parts_.data());
  launch("add_parts_kernel", add_parts_kernel, one_each(num_entries), memory.stream(),
         parts_.data(), num_parts, num_entries, totals_.data() + first);
  sums_.push_back({form, first, first + num_entries, to});
}

void TableSums::finish(DeviceMemory& memory) {
  if (sums_.empty()) return;
  const std::vector<double> totals = download_all(memory, totals_);
  for (const Sum& sum : sums_)
    for (int64_t e = 0; e < sum.end - sum.first; ++e)
      sum.to[sum.form == CompatibilityForm::scalar ? 0 : e] -=
          totals[static_cast<std::size_t>(sum.first + e)];
  sums_.clear();
}

#define DF_INSTANTIATE(T)                                                                         \
  template void multiply_table(DeviceMemory&, CompatibilityForm, const T*, const T*, int64_t,     \
                               int64_t, bool, T*);                                                \
  template void subtract_self(DeviceMemory&, const T*, const T*, const T*, int64_t, int64_t, T*); \
  template void reverse_softmax(DeviceMemory&, const T*, const T*, int64_t, int64_t, T*, T*);     \
  template void TableSums::subtract(DeviceMemory&, CompatibilityForm, const T*, const T*, double*);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
