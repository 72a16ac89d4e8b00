// From the gradient of splat and slice to the weights, and from the weights to the features
// and their standard deviations: maths §6 (29) to (33). Reads the stored tables; no point is
// embedded again.
#include <vector>

#include "../core/embed_grad.h"
#include "../core/normalization.h"
#include "densefield/threads.h"
#include "reverse_steps.h"
#include "simd/reverse_kernels.h"

namespace densefield::cpu {

template <typename T>
void weight_gradient(const CpuLattice<T>& lattice, const T* rows, const CpuVertexRows<T>& vertices,
                     T scale, T* grad_weight) {
  const int corners = lattice.num_corners();
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const Block& block = lattice.layout->blocks()[static_cast<size_t>(index)];
    const int64_t first = block.begin * corners;
    const int64_t slot = lattice.slot_begin[static_cast<size_t>(index)];
    simd::reverse_kernels<T>().weight_gradient(
        {block.end - block.begin, corners, lattice.weight.data() + first,
         lattice.corner.data() + first},
        rows + block.begin * vertices.stride, vertices.slots.data() + slot * vertices.stride, scale,
        grad_weight + first, vertices.stride);
  });
}

template <typename T>
void scale_gradient(const ScaleGradient<T>& scales) {
  const ScaleRule<T> rule = scale_rule(scales.normalization, scales.slice_scale);
  constexpr int64_t kGrain = 16384;  // nodes per task: about 50 us
  parallel_for((scales.num_nodes + kGrain - 1) / kGrain, [&](int64_t task, int) {
    const int64_t end = std::min(scales.num_nodes, (task + 1) * kGrain);
    for (int64_t i = task * kGrain; i < end; ++i) {
      const T pre = scales.pre[i], post = scales.post[i];
      if (scales.diagonal != nullptr) {
        const SelfGradient<T> by_self =
            self_gradient(scales.slice_scale, scales.grad_self[i], scales.diagonal[i], pre, post);
        scales.grad_diagonal[i] = by_self.diagonal;
        scales.grad_pre[i] += by_self.pre;
        scales.grad_post[i] += by_self.post;
      }
      T* row = scales.grad_norm + i * scales.stride;
      row[0] = normalization_gradient(rule, pre, post, scales.grad_pre[i], scales.grad_post[i]);
      for (int64_t c = 1; c < scales.stride; ++c) row[c] = T(0);
    }
  });
}

namespace {

// One block of the way from weights to features. `grad_sigma` is [d], positions first.
template <typename T>
class BlockFeatures {
 public:
  BlockFeatures(const CpuLattice<T>& lattice, const Features<T>& features, const T* grad_weight,
                const FeatureGradient<T>& out)
      : lattice_(lattice),
        features_(features),
        grad_weight_(grad_weight),
        out_(out),
        num_axes_(static_cast<int>(features.sigma_position.size())) {
    embedding_scales(lattice.dimension, scale_);
  }

  void run(const Block& block, double* grad_sigma) const {
    const int dim = lattice_.dimension;
    int64_t point = block.begin;
    for (int64_t r = block.run_begin; r < block.run_end; ++r) {
      const Run& run = lattice_.layout->run(r);
      for (int64_t node = run.node; node < run.node + run.length; ++node, ++point) {
        T grad_feature[kMaxDim];
        uint8_t rank[kMaxDim + 1];
        embedding_gradient(dim, scale_, lattice_.ranks.of_point(point, rank),
                           grad_weight_ + point * (dim + 1), grad_feature);
        add_position(node, grad_feature, grad_sigma);
        add_values(node, grad_feature + num_axes_, grad_sigma + num_axes_);
      }
    }
  }

 private:
  // f = p / sigma:  dL/dsigma = -sum of dL/df p / sigma^2.  The division by sigma^2 comes later.
  void add_position(int64_t node, const T* grad_feature, double* grad_sigma) const {
    const auto& extent = lattice_.layout->grid().extent;
    for (int a = 0; a < num_axes_; ++a) {
      const int64_t length = extent[extent.size() - 1 - static_cast<size_t>(a)];
      grad_sigma[a] -= double(grad_feature[a]) * double(node % length);
      node /= length;
    }
  }

  void add_values(int64_t node, const T* grad_feature, double* grad_sigma) const {
    for (int64_t c = 0; c < features_.values.num_channels; ++c) {
      const T sigma = features_.sigma_value[static_cast<size_t>(c)];
      if (out_.values.data != nullptr) out_.values.at(c, node) += grad_feature[c] / sigma;
      if (out_.sigma_value != nullptr)
        grad_sigma[c] -= double(grad_feature[c]) * double(features_.values.at(c, node));
    }
  }

  const CpuLattice<T>& lattice_;
  const Features<T>& features_;
  const T* grad_weight_;
  const FeatureGradient<T>& out_;
  const int num_axes_;
  T scale_[kMaxDim];
};

}  // namespace

template <typename T>
void feature_gradient(const CpuLattice<T>& lattice, const Features<T>& features,
                      const T* grad_weight, const FeatureGradient<T>& out) {
  const auto dim = static_cast<size_t>(lattice.dimension);
  const auto& blocks = lattice.layout->blocks();
  std::vector<double> sums(blocks.size() * dim, 0.0);
  const BlockFeatures<T> body(lattice, features, grad_weight, out);
  parallel_for(lattice.layout->num_blocks(), [&](int64_t index, int) {
    const auto block = static_cast<size_t>(index);
    body.run(blocks[block], sums.data() + block * dim);
  });
  const size_t num_axes = features.sigma_position.size();
  for (size_t i = 0; i < blocks.size(); ++i)
    for (size_t j = 0; j < dim; ++j) {
      const bool is_axis = j < num_axes;
      double* total = is_axis ? out.sigma_position : out.sigma_value;
      if (total == nullptr) continue;
      const size_t place = is_axis ? j : j - num_axes;
      const double sigma =
          double(is_axis ? features.sigma_position[place] : features.sigma_value[place]);
      total[place] += sums[i * dim + j] / (sigma * sigma);
    }
}

#define DF_INSTANTIATE(T)                                                                        \
  template void weight_gradient(const CpuLattice<T>&, const T*, const CpuVertexRows<T>&, T, T*); \
  template void scale_gradient(const ScaleGradient<T>&);                                         \
  template void feature_gradient(const CpuLattice<T>&, const Features<T>&, const T*,             \
                                 const FeatureGradient<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
