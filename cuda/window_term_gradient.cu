// From the weights of a window table to its terms: scales, features, standard deviations and
// weights, maths §3 and §5 "Gradients". The Gaussians are computed again.
#include <algorithm>
#include <utility>

#include "../cpp/core/normalization.h"
#include "reduce.cuh"
#include "steps.cuh"
#include "window_features.cuh"
#include "window_gradient.cuh"

namespace densefield::cuda {
namespace {

// What the pairs of cells of one term are weighed with.
template <typename T>
struct Pairs {
  CellFeatures<T> features;
  const WindowTap* taps;  // [num_taps]
  const T* grad;          // [num_taps, cells] by the weights
  const T* pre;           // [cells]; nullptr: 1
  const T* post;          // [cells]; nullptr: 1
  const T* norm;          // [cells] by n = K 1; nullptr: 0
  T factor;               // of the weights
  int64_t num_cells;
  int64_t num_taps;

  template <typename Visit>
  void for_pointers(Visit visit) const {
    features.for_pointers(visit);
    visit(taps);
    visit(grad);
    visit(pre);
    visit(post);
    visit(norm);
  }
  // By the weight of a cell's neighbour for the cell, and the other way round.
  __device__ T grad_to(int64_t cell, int64_t tap) const { return grad[tap * num_cells + cell]; }
  __device__ T grad_from(int64_t neighbour, int64_t tap) const {
    return grad[(num_taps - 1 - tap) * num_cells + neighbour];
  }
  __device__ T pre_at(int64_t cell) const { return pre != nullptr ? pre[cell] : T(1); }
  __device__ T post_at(int64_t cell) const { return post != nullptr ? post[cell] : T(1); }
  __device__ T norm_at(int64_t cell) const { return norm != nullptr ? norm[cell] : T(0); }
};

// Sums over the neighbours j of i: grad_post[i] = sum of g_ij pre_j dL/dK_ij and
// grad_pre[i] = sum of g_ij post_j dL/dK_ji. Limited by reading the gradient twice.
template <typename T>
__global__ void scale_sums_kernel(Pairs<T> pairs,
                                  T* grad_pre,     // [cells] out
                                  T* grad_post) {  // [cells] out
  const int64_t i = item_of_thread();
  if (i >= pairs.num_cells) return;
  T by_pre = T(0), by_post = T(0);
  for (int64_t t = 0; t < pairs.num_taps; ++t) {
    const WindowTap tap = pairs.taps[t];
    const int64_t j = pairs.features.neighbour(i, tap);
    if (j < 0) continue;
    const T g = pairs.features.weight(i, tap);
    by_post += g * pairs.grad_to(i, t) * pairs.pre_at(j);
    by_pre += g * pairs.grad_from(j, t) * pairs.post_at(j);
  }
  grad_pre[i] = by_pre;
  grad_post[i] = by_post;
}

// By n = K 1, and the sum of post grad_post, which is the gradient by the term's weight.
template <typename T>
__global__ void norm_gradient_kernel(ScaleRule<T> rule,
                                     const T* pre,        // [count]; nullptr: no scales
                                     const T* post,       // [count]; nullptr: no scales
                                     const T* grad_pre,   // [count]
                                     const T* grad_post,  // [count], lacks the weight
                                     T pre_factor, T post_factor, int64_t count,
                                     T* norm,         // [count] out, where there are scales
                                     double* part) {  // [blocks] out
  DF_SHARED(double, shared, kBlock);
  double sum = 0;
  for_rows(count, [&](int64_t i) {
    const T scale = post != nullptr ? post[i] : T(1);
    sum += double(scale) * double(grad_post[i]);
    if (pre != nullptr)
      norm[i] = normalization_gradient(rule, pre[i], scale, pre_factor * grad_pre[i],
                                       post_factor * grad_post[i]);
  });
  sum = sum_of_block(sum, shared);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

// What one cell's neighbours give: along the axes, and for a few channels.
constexpr int kChannels = 4;
template <typename T>
struct PairSums {
  T along[3];            // of share times squared distance, in sigmas
  T steps[kChannels];    // of share times step
  T squares[kChannels];  // of share times squared step
};

template <typename T>
__device__ PairSums<T> sum_pairs(const Pairs<T>& pairs, int64_t i, int64_t first_channel,
                                 int channels) {
  const CellFeatures<T>& features = pairs.features;
  const T* here = features.values + i * features.cell_stride;
  const T pre = pairs.pre_at(i), post = pairs.post_at(i), norm = pairs.norm_at(i);
  PairSums<T> sums{};
  for (int64_t t = 0; t < pairs.num_taps; ++t) {
    const WindowTap tap = pairs.taps[t];
    const int64_t j = features.neighbour(i, tap);
    if (j < 0) continue;
    double along[3];
    const T g = features.weight(i, tap, along);
    const T by_weight =
        window_pair_gradient(pairs.grad_to(i, t), pairs.grad_from(j, t), pre * pairs.post_at(j),
                             post * pairs.pre_at(j), pairs.factor);
    const T share = window_pair_share(g, by_weight, norm, pairs.norm_at(j));
    for (int a = 0; a < 3; ++a) sums.along[a] += share * static_cast<T>(along[a]);
    const T* there = here + tap.distance * features.cell_stride;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      if (c >= channels) continue;
      const int64_t at = (first_channel + c) * features.channel_stride;
      const T step = there[at] - here[at];
      sums.steps[c] += share * step;
      sums.squares[c] += share * step * step;
    }
  }
  return sums;
}

// By features, and the sums for standard deviations. Limited by reading the gradient twice for
// every kChannels channels, which are the rows of blocks.
template <typename T>
__global__ void feature_sums_kernel(Pairs<T> pairs,
                                    T* grad_feature,  // [cells, channels] out
                                    double* part) {   // [3 + channels, blocks] out: z, y, x first
  DF_SHARED(double, shared, kBlock);
  const int64_t i = item_of_thread(), num_channels = pairs.features.num_channels;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kChannels;
  const int64_t left = num_channels - first;
  const int channels = left < kChannels ? static_cast<int>(left) : kChannels;
  PairSums<T> sums{};
  if (i < pairs.num_cells) sums = sum_pairs(pairs, i, first, channels);
  const auto store = [&](T value, int64_t row) {
    const double sum = sum_of_block(static_cast<double>(value), shared);
    if (threadIdx.x == 0) part[row * gridDim.x + blockIdx.x] = sum;
  };
  if (blockIdx.y == 0)
    for (int a = 0; a < 3; ++a) store(sums.along[a], a);
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    if (c >= channels) continue;
    store(sums.squares[c], 3 + first + c);
    if (i < pairs.num_cells) grad_feature[i * num_channels + first + c] = sums.steps[c];
  }
}

template <typename T>
__global__ void add_feature_gradient_kernel(const T* grad_feature,   // [N, channels]
                                            const T* inverse_sigma,  // [channels]
                                            int64_t num_values, int64_t num_channels,
                                            T* grad_values) {  // [N, channels] added to
  const int64_t e = item_of_thread();
  if (e >= num_values) return;
  const T inverse = inverse_sigma[e % num_channels];
  grad_values[e] += grad_feature[e] * inverse * inverse;
}

double sum_of(const double* first, int64_t count) {
  double sum = 0;
  for (int64_t p = 0; p < count; ++p) sum += first[p];
  return sum;
}

// One term on its way back.
template <typename T>
class TermReverse {
 public:
  TermReverse(DeviceMemory& memory, const CudaWindowTable<T>& table,
              const CudaWindowGradient<T>& gradient, const WindowTerm<T>& term)
      : memory_(memory),
        table_(table),
        gradient_(gradient),
        term_(term),
        is_normalized_(term.normalization != Normalization::none),
        // Normalised terms between cells have their weight and scales at the nodes.
        at_nodes_(table.cells.has_cells() && is_normalized_),
        features_(memory, table.cells, term.features) {
    if (is_normalized_)
      scales_ = node_scales(memory, table, features_.given, term.normalization, T(1));
    pairs_ = {features_.given,
              table.taps.data(),
              gradient.weights.data(),
              at_nodes_ ? nullptr : scales_.pre.data(),
              at_nodes_ ? nullptr : scales_.post.data(),
              nullptr,
              at_nodes_ ? T(1) : term.weight,
              table.num_cells(),
              table.num_taps()};
  }

  void run(const WindowTermGradient<T>& out) {
    if (at_nodes_) {
      *out.weight = reverse_scales(gradient_.pre.data(), gradient_.post.data());
    } else {
      Buffer<T> grad_pre(memory_, table_.num_cells()), grad_post(memory_, table_.num_cells());
      launch("scale_sums_kernel", scale_sums_kernel<T>, one_each(table_.num_cells()),
             memory_.stream(), pairs_, grad_pre.data(), grad_post.data());
      *out.weight = reverse_scales(grad_pre.data(), grad_post.data());
    }
    pairs_.norm = norm_.data();
    reverse_features(out);
  }

 private:
  // Fills norm_ and returns the gradient by the weight: K~ = weight post (K pre).
  double reverse_scales(const T* grad_pre, const T* grad_post) {
    const bool has_cells = table_.cells.has_cells();
    const int64_t count = at_nodes_ ? table_.num_nodes() : table_.num_cells();
    if (is_normalized_) norm_ = Buffer<T>(memory_, count);
    // grad_pre at the nodes has the weight in it: it went through the table's `post`.
    const T pre_factor = at_nodes_ ? T(1) : term_.weight;
    const LaunchShape shape = blocks_of_rows(count);
    Buffer<double> part(memory_, shape.grid.x);
    launch("norm_gradient_kernel", norm_gradient_kernel<T>, shape, memory_.stream(),
           scale_rule(term_.normalization, T(1)), scales_.pre.data(), scales_.post.data(), grad_pre,
           grad_post, pre_factor, term_.weight, count, norm_.data(), part.data());
    if (is_normalized_ && has_cells) {
      Buffer<T> at_cells(memory_, table_.num_cells());
      upsample_transpose<T>(memory_, table_.cells, norm_.data(), nullptr, 1, at_cells.data());
      norm_ = std::move(at_cells);
    }
    return sum_of(download_all(memory_, part).data(), part.size());
  }

  void reverse_features(const WindowTermGradient<T>& out) {
    const int64_t channels = features_.given.num_channels, cells = table_.num_cells();
    LaunchShape shape = one_each(cells);
    const int64_t chunks = (channels + kChannels - 1) / kChannels;
    shape.grid.y = static_cast<unsigned>(std::max<int64_t>(1, chunks));
    Buffer<T> grad_feature(memory_, cells * channels);
    Buffer<double> part(memory_, (3 + channels) * shape.grid.x);
    launch("feature_sums_kernel", feature_sums_kernel<T>, shape, memory_.stream(), pairs_,
           grad_feature.data(), part.data());
    if (out.values.data != nullptr) add_values(grad_feature, out.values);
    store_sigmas(download_all(memory_, part), shape.grid.x, out);
  }

  // Every pair of cells is there twice. Steps along axes are in units of sigma already.
  void store_sigmas(const std::vector<double>& part, int64_t num_blocks,
                    const WindowTermGradient<T>& out) const {
    const Features<T>& features = term_.features;
    const auto sum = [&](std::size_t row) {
      return sum_of(part.data() + static_cast<int64_t>(row) * num_blocks, num_blocks);
    };
    for (std::size_t a = 0; a < features.sigma_position.size(); ++a)
      out.sigma_position[a] =
          window_sigma_gradient(sum(2 - a), static_cast<double>(features.sigma_position[a]));
    for (std::size_t c = 0; c < features.sigma_value.size(); ++c) {
      const auto sigma = static_cast<double>(features.sigma_value[c]);
      out.sigma_value[c] = window_sigma_gradient(sum(3 + c) / (sigma * sigma), sigma);
    }
  }

  void add_values(const Buffer<T>& grad_feature, const NodeView<T>& to) {
    const int64_t channels = to.num_channels, num_nodes = table_.num_nodes();
    if (channels == 0) return;
    const T* at_nodes = grad_feature.data();
    Buffer<T> nodes;
    if (table_.cells.has_cells()) {
      nodes = Buffer<T>(memory_, num_nodes * channels);
      pool_transpose<T>(memory_, table_.cells, grad_feature.data(), nullptr, channels,
                        nodes.data());
      at_nodes = nodes.data();
    }
    Buffer<T> sums(memory_, num_nodes * channels);
    load_rows(memory_,
              NodeView<const T>{to.data, to.num_nodes, to.num_channels, to.node_stride,
                                to.channel_stride},
              sums.data());
    launch("add_feature_gradient_kernel", add_feature_gradient_kernel<T>, one_each(sums.size()),
           memory_.stream(), at_nodes, features_.given.inverse_sigma, sums.size(), channels,
           sums.data());
    store_rows<T>(memory_, sums.data(), to);
  }

  DeviceMemory& memory_;
  const CudaWindowTable<T>& table_;
  const CudaWindowGradient<T>& gradient_;
  const WindowTerm<T>& term_;
  const bool is_normalized_;
  const bool at_nodes_;
  const TermFeatures<T> features_;
  NodeScales<T> scales_;  // empty without normalisation
  Pairs<T> pairs_{};
  Buffer<T> norm_;  // [cells]; empty without normalisation
};

}  // namespace

template <typename T>
void window_term_gradients(DeviceMemory& memory, const CudaWindowTable<T>& table,
                           CudaWindowGradient<T>& gradient,
                           std::span<const WindowTermGradient<T>> terms) {
  fold_diagonal(memory, table, gradient);
  for (const WindowTermGradient<T>& out : terms)
    TermReverse<T>(memory, table, gradient, *out.term).run(out);
}

#define DF_INSTANTIATE(T)                                                       \
  template void window_term_gradients(DeviceMemory&, const CudaWindowTable<T>&, \
                                      CudaWindowGradient<T>&,                   \
                                      std::span<const WindowTermGradient<T>>);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
