// One update of mean field backwards, maths §6, kernel by kernel: every step is a simple one over
// all nodes, limited by memory.
#include <algorithm>

#include "reduce.cuh"
#include "reverse_scratch.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

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

template <typename T>
void add_kernel_gradients(DeviceMemory& memory, const MeanFieldReversePass<T>& pass,
                          const ReverseKernel<T>& kernel, CudaReverseScratch<T>& scratch) {
  const int64_t labels = pass.num_labels, num_nodes = pass.layout->num_nodes();
  const CudaLattice<T>& lattice = as_cuda(*kernel.kernel->lattice);
  multiply_table(memory, kernel.compatibility->form, kernel.compatibility->values.data(),
                 pass.marginals, num_nodes, labels, false, scratch.by_values.data());
  multiply_table<T>(memory, kernel.compatibility->form,
                    kernel.transposed_compatibility->values.data(), pass.grad_scores, num_nodes,
                    labels, false, scratch.by_message.data());
  const KernelGradients<T> gradients{lattice.corners,
                                     lattice.weight.data(),
                                     lattice.corner.data(),
                                     as_cuda(*kernel.forward).values.data(),
                                     as_cuda(*kernel.reversed).values.data(),
                                     scratch.by_values.data(),
                                     scratch.by_message.data(),
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

// scratch.grad += what one kernel's message of the later update makes of its gradient.
template <typename T>
void receive_message(DeviceMemory& memory, const MeanFieldReversePass<T>& pass,
                     const ReverseKernel<T>& kernel, CudaReverseScratch<T>& scratch) {
  const int64_t labels = pass.num_labels, num_nodes = pass.layout->num_nodes();
  T* const filtered = scratch.filtered.data();  // K~^T grad_scores - self grad_scores
  slice<T>(memory, as_cuda(*kernel.kernel->lattice), as_cuda(*kernel.reversed),
           kernel.kernel->pre.data(), T(1), filtered);
  if (!kernel.kernel->self.is_empty())
    subtract_self<T>(memory, filtered, kernel.kernel->self.data(), pass.grad_scores, num_nodes,
                     labels, filtered);
  if (kernel.forward != nullptr) add_kernel_gradients(memory, pass, kernel, scratch);
  scratch.sums.template subtract<T>(memory, kernel.compatibility->form, filtered, pass.marginals,
                                    kernel.grad_compatibility);
  multiply_table<T>(memory, kernel.compatibility->form,
                    kernel.transposed_compatibility->values.data(), filtered, num_nodes, labels,
                    true, scratch.grad.data());
}

}  // namespace

template <typename T>
std::unique_ptr<UpdateScratch<T>> make_reverse_scratch(DeviceMemory& memory, int64_t num_nodes,
                                                       int64_t num_labels,
                                                       std::span<const ReverseKernel<T>> kernels) {
  std::vector<CompatibilityForm> forms;
  bool wants_kernel = false;
  int64_t most_grid_vertices = 0;
  for (const ReverseKernel<T>& kernel : kernels) {
    forms.push_back(kernel.compatibility->form);
    if (kernel.forward == nullptr) continue;
    wants_kernel = true;
    const Lattice<T>& lattice = *kernel.kernel->lattice;
    if (lattice.num_grid_axes() > 0)
      most_grid_vertices = std::max(most_grid_vertices, lattice.num_vertices());
  }
  const int64_t size = num_nodes * num_labels;
  auto scratch = std::make_unique<CudaReverseScratch<T>>(memory, forms, num_nodes, num_labels);
  scratch->filtered = Buffer<T>(memory, size);
  if (wants_kernel) {
    scratch->by_values = Buffer<T>(memory, size);
    scratch->by_message = Buffer<T>(memory, size);
  }
  if (most_grid_vertices > 0)
    scratch->grid = make_grid_products<T>(memory, most_grid_vertices, num_labels);
  return scratch;
}

template <typename T>
void mean_field_reverse_pass(DeviceMemory& memory, const MeanFieldReversePass<T>& pass) {
  const int64_t labels = pass.num_labels, num_nodes = pass.layout->num_nodes();
  if (num_nodes * labels == 0) return;
  CudaReverseScratch<T>& scratch = as_reverse(*pass.scratch);
  const T* by_marginals = pass.grad_scores;
  if (pass.has_messages) {
    clear(memory, scratch.grad);
    for (const ReverseKernel<T>& kernel : pass.kernels)
      receive_message(memory, pass, kernel, scratch);
    by_marginals = scratch.grad.data();
  }
  reverse_softmax(memory, pass.of_scores ? nullptr : pass.marginals, by_marginals, num_nodes,
                  labels, pass.grad_scores, pass.grad_unary);
  if (pass.splats)
    for (const ReverseKernel<T>& kernel : pass.kernels)
      splat<T>(memory, as_cuda(*kernel.kernel->lattice), pass.grad_scores,
               kernel.kernel->post.data(), as_cuda(*kernel.reversed));
  scratch.sums.finish(memory);
}

#define DF_INSTANTIATE(T)                                                  \
  template std::unique_ptr<UpdateScratch<T>> make_reverse_scratch(         \
      DeviceMemory&, int64_t, int64_t, std::span<const ReverseKernel<T>>); \
  template void mean_field_reverse_pass(DeviceMemory&, const MeanFieldReversePass<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
