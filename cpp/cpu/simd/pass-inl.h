// The fused mean-field pass over one block of points: slice every kernel's message,
// compatibility, softmax, splat for the next iteration. [KK11] Algorithm 1, maths §2.
// The message includes j = i and the paper's does not: `self` takes it out where asked.
#pragma once

namespace densefield::simd {
namespace {

// score -= A_m message, in the three forms of A_m (maths §6).
template <typename T, typename R>
DF_HD void subtract_energy(const PassBlock<T>& block, const PassKernel<T>& kernel,
                           const R& message, T factor, R& score, T* scratch) {
  switch (kernel.kind) {
    case CompatibilityKind::scalar: {
      const T scale = factor * kernel.compatibility[0];
      fill(score, [&](int v) { return score.get(v) - scale * message.get(v); });
      return;
    }
    case CompatibilityKind::vector:
      fill(score, [&](int v) {
        return score.get(v) - (factor * message.get(v)) * load(kernel.compatibility, v);
      });
      return;
    case CompatibilityKind::matrix:
      for (int v = 0; v < message.size(); ++v)
        store(scratch + v * kLanes<T>, factor * message.get(v));
      for (int64_t label = 0; label < block.num_labels; ++label) {
        const T share = scratch[label];
        const T* column = kernel.compatibility + label * block.stride;
        fill(score, [&](int v) { return score.get(v) - share * load(column, v); });
      }
      return;
  }
}

template <typename T, typename R>
DF_HD void softmax_row(R& score) {
  Vec<T> largest = score.get(0);
  for (int v = 1; v < score.size(); ++v) largest = larger(largest, score.get(v));
  largest = fold_max(largest);
  Vec<T> sum = {};
  fill(score, [&](int v) {
    const Vec<T> term = softmax_term(score.get(v), largest);
    sum += term;
    return term;
  });
  const Vec<T> inverse = T(1) / fold_sum(sum);
  fill(score, [&](int v) { return score.get(v) * inverse; });
}

// score = -(unary + pairwise energy) of point i.
template <typename T, typename R>
DF_HD void score_of_point(const PassBlock<T>& block, int64_t i, R& score, R& message) {
  const int64_t row = i * block.stride;
  fill(score, [&](int v) { return -load(block.unary + row, v); });
  if (block.energy != nullptr)
    fill(score, [&](int v) { return score.get(v) - load(block.energy + row, v); });
  for (int m = 0; m < block.num_kernels; ++m) {
    const PassKernel<T>& kernel = block.kernels[m];
    if (kernel.vertices == nullptr) continue;
    const int corners = kernel.corners.num_corners;
    slice_point(kernel.corners.weight + i * corners, kernel.corners.corner + i * corners, corners,
                kernel.vertices, block.stride, message);
    T factor = kernel.post[i];
    if (kernel.self != nullptr) {
      fill(message, [&](int v) {
        return factor * message.get(v) - kernel.self[i] * load(block.previous + row, v);
      });
      factor = T(1);
    }
    subtract_energy(block, kernel, message, factor, score, block.scratch + 2 * block.stride);
  }
}

template <typename T, typename R>
DF_HD void splat_marginals(const PassBlock<T>& block, int64_t i, const R& marginal, R& scaled) {
  for (int m = 0; m < block.num_kernels; ++m) {
    const PassKernel<T>& kernel = block.kernels[m];
    if (kernel.sums == nullptr) continue;
    const int corners = kernel.corners.num_corners;
    fill(scaled, [&](int v) { return kernel.pre[i] * marginal.get(v); });
    splat_point(kernel.corners.weight + i * corners, kernel.corners.corner + i * corners, corners,
                scaled, kernel.sums, block.stride);
  }
}

template <typename T, int NV>
void pass_of_vectors(const PassBlock<T>& block) {
  const int64_t size = block.stride / kLanes<T>;
  Row<T, NV> row(block.scratch, size);
  Row<T, NV> other(block.scratch + block.stride, size);
  Vec<T> change = {};
  for (int64_t i = 0; i < block.count; ++i) {
    score_of_point(block, i, row, other);
    softmax_row<T>(row);
    if (block.change != nullptr)
      for (int v = 0; v < row.size(); ++v) {
        const Vec<T> step = row.get(v) - load(block.previous + i * block.stride, v);
        change = larger(change, larger(step, -step));
      }
    if (block.marginals != nullptr)
      for (int v = 0; v < row.size(); ++v)
        store(block.marginals + i * block.stride + v * kLanes<T>, row.get(v));
    splat_marginals(block, i, row, other);
  }
  if (block.change != nullptr) *block.change = fold_max(change)[0];
}

template <typename T>
void mean_field_pass(const PassBlock<T>& block) {
  switch (block.stride / kLanes<T>) {
    case 1: return pass_of_vectors<T, 1>(block);
    case 2: return pass_of_vectors<T, 2>(block);
    case 3: return pass_of_vectors<T, 3>(block);
    case 4: return pass_of_vectors<T, 4>(block);
    default: return pass_of_vectors<T, 0>(block);
  }
}

}  // namespace
}  // namespace densefield::simd
