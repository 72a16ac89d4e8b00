// One update of mean field backwards, maths §6, kernel by kernel: every step is a simple one over
// all nodes, limited by memory.
#include "../cpp/core/softmax.h"
#include "reduce.cuh"
#include "steps.cuh"

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

// rows -= self rows' for the node's own part of a message.
template <typename T>
__global__ void subtract_self_kernel(const T* self,   // [N]
                                     const T* later,  // [N, L]
                                     int64_t num_nodes, int64_t num_labels,
                                     T* rows) {  // [N, L] in, out
  const int64_t i = row_of_group();
  if (i >= num_nodes) return;
  for (int64_t c = threadIdx.x; c < num_labels; c += blockDim.x)
    rows[i * num_labels + c] -= self[i] * later[i * num_labels + c];
}

// What one kernel's gradients are made of.
template <typename T>
struct KernelGradients {
  int corners;
  const T* weight;        // [N, corners]
  const int32_t* corner;  // [N, corners]
  const T* forward;       // [M, L] B S^T diag(pre) q
  const T* reversed;      // [M, L] B^T S^T diag(post) grad_scores
  const T* by_values;     // [N, L] A q, to be taken negatively
  const T* by_message;    // [N, L] A^T grad_scores, to be taken negatively
  const T* marginals;     // [N, L]
  const T* pre;           // [N]
  const T* post;          // [N]
  T* grad_weight;         // [N, corners] added to; or nullptr
  T* grad_pre;            // [N] added to; or nullptr
  T* grad_post;           // [N] added to; or nullptr
  T* grad_self;           // [N] added to; or nullptr

  template <typename Visit>
  void for_pointers(Visit visit) const {
    visit(weight);
    visit(corner);
    visit(forward);
    visit(reversed);
    visit(by_values);
    visit(by_message);
    visit(marginals);
    visit(pre);
    visit(post);
    visit(grad_weight);
    visit(grad_pre);
    visit(grad_post);
    visit(grad_self);
  }
};

template <typename T>
__global__ void kernel_gradients_kernel(KernelGradients<T> g, int64_t num_nodes,
                                        int64_t num_labels) {
  const int64_t i = row_of_group(), first = i * num_labels;
  if (i >= num_nodes) return;
  const unsigned mask = mask_of_group();
  const auto dot_of_rows = [&](const T* a, const T* b) {
    T sum = T(0);
    for (int64_t c = threadIdx.x; c < num_labels; c += blockDim.x) sum += a[c] * b[c];
    return sum_of_group(sum, mask);
  };
  T by_pre = T(0), by_post = T(0);
  for (int k = 0; k < g.corners; ++k) {
    const int64_t entry = i * g.corners + k, vertex = g.corner[entry] * num_labels;
    const T of_reversed = -dot_of_rows(g.by_values + first, g.reversed + vertex);
    const T of_forward = -dot_of_rows(g.by_message + first, g.forward + vertex);
    by_pre += g.weight[entry] * of_reversed;
    by_post += g.weight[entry] * of_forward;
    if (g.grad_weight != nullptr && threadIdx.x == 0)
      g.grad_weight[entry] += g.post[i] * of_forward + g.pre[i] * of_reversed;
  }
  T of_self = T(0);
  if (g.grad_self != nullptr) of_self = dot_of_rows(g.by_message + first, g.marginals + first);
  if (threadIdx.x != 0) return;
  if (g.grad_pre != nullptr) {
    g.grad_pre[i] += by_pre;
    g.grad_post[i] += by_post;
  }
  if (g.grad_self != nullptr) g.grad_self[i] += of_self;
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

// grad_compatibility -= sum over the nodes of filtered q^T, on the host.
template <typename T>
void add_table_gradient(DeviceMemory& memory, const MeanFieldReversePass<T>& pass,
                        const ReverseKernel<T>& kernel, const Buffer<T>& filtered) {
  const int64_t labels = pass.num_labels, num_nodes = pass.layout->num_nodes();
  const CompatibilityForm form = kernel.compatibility->form;
  const int64_t num_entries = form == CompatibilityForm::matrix ? labels * labels : labels;
  // As many parts as keep the device busy, unless a large matrix would fill its memory with them.
  constexpr int64_t kMostParts = 256, kMostValues = int64_t{1} << 22, kFewestNodes = 64;
  const int64_t wanted = (num_nodes + kFewestNodes - 1) / kFewestNodes;
  const int64_t fitting = kMostValues / num_entries > 0 ? kMostValues / num_entries : 1;
  int64_t num_parts = wanted < kMostParts ? wanted : kMostParts;
  if (fitting < num_parts) num_parts = fitting;
  const int64_t nodes_per_part = (num_nodes + num_parts - 1) / num_parts;
  Buffer<double> part(memory, num_parts * num_entries), total(memory, num_entries);
  LaunchShape shape = one_each(num_entries);
  shape.grid.y = static_cast<unsigned>(num_parts);
  launch("table_gradient_kernel", table_gradient_kernel<T>, shape, memory.stream(), filtered.data(),
         pass.marginals, num_nodes, labels, num_entries, nodes_per_part, part.data());
  launch("add_parts_kernel", add_parts_kernel, one_each(num_entries), memory.stream(), part.data(),
         num_parts, num_entries, total.data());
  const std::vector<double> sums = download_all(memory, total);
  for (std::size_t e = 0; e < sums.size(); ++e)
    kernel.grad_compatibility[form == CompatibilityForm::scalar ? 0 : e] -= sums[e];
}

template <typename T>
void add_kernel_gradients(DeviceMemory& memory, const MeanFieldReversePass<T>& pass,
                          const ReverseKernel<T>& kernel) {
  const int64_t labels = pass.num_labels, num_nodes = pass.layout->num_nodes();
  const CudaLattice<T>& lattice = as_cuda(*kernel.kernel->lattice);
  Buffer<T> by_values(memory, num_nodes * labels), by_message(memory, num_nodes * labels);
  multiply_table(memory, kernel.compatibility->form, kernel.compatibility->values.data(),
                 pass.marginals, num_nodes, labels, false, by_values.data());
  multiply_table<T>(memory, kernel.compatibility->form,
                    kernel.transposed_compatibility->values.data(), pass.grad_scores, num_nodes,
                    labels, false, by_message.data());
  const KernelGradients<T> gradients{lattice.corners,
                                     lattice.weight.data(),
                                     lattice.corner.data(),
                                     as_cuda(*kernel.forward).values.data(),
                                     as_cuda(*kernel.reversed).values.data(),
                                     by_values.data(),
                                     by_message.data(),
                                     pass.marginals,
                                     kernel.kernel->pre.data(),
                                     kernel.kernel->post.data(),
                                     kernel.grad_weight,
                                     kernel.grad_pre,
                                     kernel.grad_post,
                                     kernel.grad_self};
  launch("kernel_gradients_kernel", kernel_gradients_kernel<T>, group_each(num_nodes, labels),
         memory.stream(), gradients, num_nodes, labels);
}

// grad += what one kernel's message of the later update makes of its gradient.
template <typename T>
void receive_message(DeviceMemory& memory, const MeanFieldReversePass<T>& pass,
                     const ReverseKernel<T>& kernel, Buffer<T>& filtered, Buffer<T>& grad) {
  const int64_t labels = pass.num_labels, num_nodes = pass.layout->num_nodes();
  // filtered = K~^T grad_scores - self grad_scores
  slice<T>(memory, as_cuda(*kernel.kernel->lattice), as_cuda(*kernel.reversed),
           kernel.kernel->pre.data(), T(1), filtered.data());
  if (!kernel.kernel->self.is_empty())
    launch("subtract_self_kernel", subtract_self_kernel<T>, group_each(num_nodes, labels),
           memory.stream(), kernel.kernel->self.data(), pass.grad_scores, num_nodes, labels,
           filtered.data());
  if (kernel.forward != nullptr) add_kernel_gradients(memory, pass, kernel);
  add_table_gradient(memory, pass, kernel, filtered);
  multiply_table(memory, kernel.compatibility->form, kernel.transposed_compatibility->values.data(),
                 filtered.data(), num_nodes, labels, true, grad.data());
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
void mean_field_reverse_pass(DeviceMemory& memory, const MeanFieldReversePass<T>& pass) {
  const int64_t labels = pass.num_labels, num_nodes = pass.layout->num_nodes();
  if (num_nodes * labels == 0) return;
  Buffer<T> grad;  // by the marginals, where messages make it up
  const T* by_marginals = pass.grad_scores;
  if (pass.has_messages) {
    grad = Buffer<T>(memory, num_nodes * labels);
    fill(memory, T(0), grad.size(), grad.data());
    Buffer<T> filtered(memory, num_nodes * labels);
    for (const ReverseKernel<T>& kernel : pass.kernels)
      receive_message(memory, pass, kernel, filtered, grad);
    by_marginals = grad.data();
  }
  launch("softmax_gradient_kernel", softmax_gradient_kernel<T>, group_each(num_nodes, labels),
         memory.stream(), pass.of_scores ? nullptr : pass.marginals, by_marginals, num_nodes,
         labels, pass.grad_scores, pass.grad_unary);
  if (!pass.splats) return;
  for (const ReverseKernel<T>& kernel : pass.kernels)
    splat<T>(memory, as_cuda(*kernel.kernel->lattice), pass.grad_scores, kernel.kernel->post.data(),
             as_cuda(*kernel.reversed));
}

#define DF_INSTANTIATE(T)                                                                     \
  template void multiply_table(DeviceMemory&, CompatibilityForm, const T*, const T*, int64_t, \
                               int64_t, bool, T*);                                            \
  template void mean_field_reverse_pass(DeviceMemory&, const MeanFieldReversePass<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
