// The reverse pass of mean field over one block of points, maths §6: slice what the transposed
// filter made of the later gradient, gradients of compatibility and weights, transposed
// compatibility, derivative of the softmax, splat for the earlier update.
//
// The same chunks and loops as pass-inl.h, for the same reasons.
#pragma once

#include "../../core/embed.h"
#include "products-inl.h"

namespace densefield::simd {
namespace {

// A point's products with the rows at its corners.
template <typename T>
struct CornerProducts {
  static constexpr int kSize = (kMaxDim + 1 + 7) / 8 * 8;  // whole vectors
  T of_reversed[kSize];                                    // -A q . reversed
  T of_forward[kSize];                                     // -A^T grad . forward
};

// One chunk: points first .. first + count - 1 of the block. NV: vectors of a row, 0 for any.
template <typename T, int NV>
struct ChunkReverse {
  using R = Row<T, NV>;

  const ReverseBlock<T> block;
  int64_t first;
  int64_t count;

  DF_HD int64_t stride() const { return NV > 0 ? NV * kLanes<T> : block.stride; }
  DF_HD T* work(int64_t r) const { return block.scratch + r * stride(); }
  DF_HD T* grad(int64_t p) const { return work(kReverseWorkRows + p); }
  DF_HD T* filtered(int64_t p) const { return work(kReverseWorkRows + kPassChunk + p); }
  DF_HD T* line() const { return filtered(kPassChunk); }
  DF_HD R row(T* memory) const { return R(memory, stride() / kLanes<T>); }
  DF_HD const T* marginal(int64_t p) const { return block.marginals + (first + p) * stride(); }
  DF_HD T* later(int64_t p) const { return block.grad_scores + (first + p) * stride(); }

  DF_HD void start() const {
    for (int64_t p = 0; p < count; ++p) {
      R to = row(grad(p));
      const T* from = later(p);
      if (block.has_messages)
        fill(to, [&](int) { return Vec<T>{}; });
      else
        fill(to, [&](int v) { return load(from, v); });
      to.save(grad(p));
    }
  }

  // filtered = K~^T grad_scores - self grad_scores.
  template <int K>
  DF_HD void slice(const ReversePart<T>& part) const {
    const int corners = K > 0 ? K : part.corners.num_corners;
    for_row_pieces<T, NV>(stride(), [&](auto nv, int64_t offset) {
      for (int64_t p = 0; p < count; ++p) {
        const int64_t i = first + p;
        Row<T, nv> sum(nullptr, nv);
        slice_point(part.corners.weight + i * corners, part.corners.corner + i * corners, corners,
                    part.reversed + offset, stride(), sum);
        scale(part, p, offset, sum);
      }
    });
  }

  // Of a point's sum, the piece from element `offset` on.
  template <typename M>
  DF_HD void scale(const ReversePart<T>& part, int64_t p, int64_t offset, M& sum) const {
    const T pre = part.pre[first + p];
    fill(sum, [&](int v) { return pre * sum.get(v); });
    if (part.self != nullptr) {
      const T self = part.self[first + p];
      const T* later_grad = later(p) + offset;
      fill(sum, [&](int v) { return sum.get(v) - self * load(later_grad, v); });
    }
    sum.save(filtered(p) + offset);
  }

  // The same for a spatial kernel, whose weights are constants: of its own gradients, those by
  // the scales are gathered here.
  DF_HD void slice_grid(const ReversePart<T>& part, RunCursor cursor) const {
    if (part.grad_pre == nullptr || part.forward == nullptr)
      return for_row_pieces<T, NV>(stride(), [&](auto nv, int64_t offset) {
        for_grid_rows<Row<T, nv>>(part, cursor, part.reversed + offset, nv,
                                  [&](int64_t p, auto& sum) { scale(part, p, offset, sum); });
      });
    const int size = static_cast<int>(stride() / kLanes<T>);
    for_grid_rows<R>(part, cursor, part.forward, size, [&](int64_t p, const R& message) {
      const R by_message = negative_product(part.form, part.transposed, later(p), work(1));
      part.grad_post[first + p] += dot(by_message, [&](int v) { return message.get(v); });
      if (part.grad_self == nullptr) return;
      const T* q = marginal(p);
      part.grad_self[first + p] -= dot(by_message, [&](int v) { return load(q, v); });
    });
    for_grid_rows<R>(part, cursor, part.reversed, size, [&](int64_t p, R& sum) {
      const R by_values = negative_product(part.form, part.compatibility, marginal(p), work(1));
      part.grad_pre[first + p] += dot(by_values, [&](int v) { return sum.get(v); });
      scale(part, p, 0, sum);
    });
  }

  // receive(p, S nodes) for every point of the chunk, in rows M of `size` vectors.
  template <typename M, typename Receive>
  DF_HD void for_grid_rows(const ReversePart<T>& part, RunCursor cursor, const T* nodes, int size,
                           Receive receive) const {
    for_run_pieces(*part.grid, cursor, count,
                   [&](const GridRun<T>& run, int64_t skip, int64_t p0, int64_t piece) {
                     slice_piece<M>(*part.grid, run, skip, piece, nodes, stride(), size, line(),
                                    [&](int64_t p, auto vector) {
                                      M message(filtered(p0 + p), size);
                                      fill(message, vector);
                                      receive(p0 + p, message);
                                    });
                   });
  }

  // -table from
  DF_HD R negative_product(CompatibilityForm form, const T* table, const T* from,
                           T* storage) const {
    R result = row(storage);
    fill(result, [](int) { return Vec<T>{}; });
    subtract_product(form, table, block.num_labels, from, stride(), result);
    return result;
  }

  template <typename Other>
  DF_HD T dot(const R& left, Other right) const {
    Vec<T> sum = {};
    for (int v = 0; v < left.size(); ++v) sum += left.get(v) * right(v);
    return fold_sum(sum)[0];
  }

  // The same as slice, and on the way the gradients by the kernel's weights and scales.
  template <int K>
  DF_HD void slice_and_differentiate(const ReversePart<T>& part) const {
    const int corners = K > 0 ? K : part.corners.num_corners;
    CornerProducts<T> products;
    for (int64_t p = 0; p < count; ++p) {
      const int64_t i = first + p;
      const T* weight = part.corners.weight + i * corners;
      const uint16_t* corner = part.corners.corner + i * corners;
      const R by_values = negative_product(part.form, part.compatibility, marginal(p), work(0));
      const R by_message = negative_product(part.form, part.transposed, later(p), work(1));
      R sum = row(filtered(p));
      fill(sum, [](int) { return Vec<T>{}; });
      Vec<T> of_reversed[kLanes<T>], of_forward[kLanes<T>];
      for (int k = 0; k < corners; ++k) {
        const Vec<T> w = broadcast(weight[k]);
        const T* reversed = part.reversed + corner[k] * stride();
        const T* forward = part.forward + corner[k] * stride();
        Vec<T> by_reversed = {}, by_forward = {};
        for (int v = 0; v < sum.size(); ++v) {
          const Vec<T> later_rows = load(reversed, v);
          sum.set(v, sum.get(v) + w * later_rows);
          by_reversed += by_values.get(v) * later_rows;
          by_forward += by_message.get(v) * load(forward, v);
        }
        const int lane = k % static_cast<int>(kLanes<T>);
        of_reversed[lane] = by_reversed;
        of_forward[lane] = by_forward;
        if (lane + 1 == kLanes<T> || k + 1 == corners) {
          for (int rest = lane + 1; rest < kLanes<T>; ++rest) {
            of_reversed[rest] = Vec<T>{};
            of_forward[rest] = Vec<T>{};
          }
          store_unaligned(products.of_reversed + k - lane, fold_tile(of_reversed, Sum{}));
          store_unaligned(products.of_forward + k - lane, fold_tile(of_forward, Sum{}));
        }
      }
      if (part.grad_self != nullptr) {
        const T* q = marginal(p);
        part.grad_self[i] -= dot(by_message, [&](int v) { return load(q, v); });
      }
      scale(part, p, 0, sum);
      add_kernel_gradients(part, i, corners, weight, products);
    }
  }

  DF_HD void add_kernel_gradients(const ReversePart<T>& part, int64_t i, int corners,
                                  const T* weight, const CornerProducts<T>& products) const {
    if (part.grad_weight != nullptr) {
      T* grad_weight = part.grad_weight + i * corners;
      const T pre = part.pre[i], post = part.post[i];
      for (int k = 0; k < corners; ++k)
        grad_weight[k] += post * products.of_forward[k] + pre * products.of_reversed[k];
    }
    if (part.grad_pre != nullptr) {
      T by_pre = 0, by_post = 0;
      for (int k = 0; k < corners; ++k) {
        by_pre += weight[k] * products.of_reversed[k];
        by_post += weight[k] * products.of_forward[k];
      }
      part.grad_pre[i] += by_pre;
      part.grad_post[i] += by_post;
    }
  }

  // dL/dA(l, l') -= sum over the points of filtered(l) q(l').
  DF_HD void add_compatibility_gradient(const ReversePart<T>& part) const {
    R sum = row(work(2));
    switch (part.form) {
      case CompatibilityForm::scalar:
      case CompatibilityForm::vector: {
        fill(sum, [](int) { return Vec<T>{}; });
        for (int64_t p = 0; p < count; ++p)
          fill(sum,
               [&](int v) { return sum.get(v) + load(filtered(p), v) * load(marginal(p), v); });
        sum.save(work(2));
        const bool is_scalar = part.form == CompatibilityForm::scalar;
        for (int64_t l = 0; l < block.num_labels; ++l)
          part.grad_compatibility[is_scalar ? 0 : l] -= double(work(2)[l]);
        return;
      }
      case CompatibilityForm::matrix:
        for (int64_t label = 0; label < block.num_labels; ++label) {
          fill(sum, [](int) { return Vec<T>{}; });
          for (int64_t p = 0; p < count; ++p) {
            const T share = filtered(p)[label];
            fill(sum, [&](int v) { return sum.get(v) + share * load(marginal(p), v); });
          }
          sum.save(work(2));
          double* out = part.grad_compatibility + label * stride();
          for (int64_t l = 0; l < block.num_labels; ++l) out[l] -= double(work(2)[l]);
        }
        return;
    }
  }

  // grad -= A^T filtered
  DF_HD void add_marginal_gradient(const ReversePart<T>& part) const {
    for (int64_t p = 0; p < count; ++p) {
      R to = row(grad(p));
      to.restore(grad(p));
      subtract_product(part.form, part.transposed, block.num_labels, filtered(p), stride(), to);
      to.save(grad(p));
    }
  }

  // Asks for what the next chunk reads of the points from p on.
  DF_HD void prefetch_next(int64_t p) const {
    const int64_t i = first + kPassChunk + p, rest = block.count - i;
    const int64_t points = rest < kLanes<T> ? rest : kLanes<T>;
    prefetch(block.marginals + i * stride(), points * stride());
    prefetch(block.grad_scores + i * stride(), points * stride());
    prefetch(block.grad_unary + i * stride(), points * stride());
    prefetch_kernels(block, i, points);
  }

  DF_HD void softmax() const {
    for (int64_t p = 0; p < count; ++p) {
      if (p % kLanes<T> == 0) prefetch_next(p);
      const T* q = marginal(p);
      T* out = later(p);
      T* unary = block.grad_unary + (first + p) * stride();
      R to = row(grad(p));
      to.restore(grad(p));
      if (!block.of_scores) {
        Vec<T> mean = {};
        for (int v = 0; v < to.size(); ++v) mean += to.get(v) * load(q, v);
        mean = fold_sum(mean);
        fill(to, [&](int v) { return softmax_gradient(load(q, v), to.get(v), mean); });
        to.save(grad(p));
      }
      for (int v = 0; v < to.size(); ++v) {
        store(out + v * kLanes<T>, to.get(v));
        store(unary + v * kLanes<T>, load(unary, v) - to.get(v));
      }
    }
  }

  template <int K>
  DF_HD void splat(const ReversePart<T>& part) const {
    const int corners = K > 0 ? K : part.corners.num_corners;
    for_row_pieces<T, NV>(stride(), [&](auto nv, int64_t offset) {
      for (int64_t p = 0; p < count; ++p) {
        const int64_t i = first + p;
        Row<T, nv> scaled(nullptr, nv);
        const T* from = grad(p) + offset;
        fill(scaled, [&](int v) { return part.post[i] * load(from, v); });
        splat_point(part.corners.weight + i * corners, part.corners.corner + i * corners, corners,
                    scaled, part.sums + offset, stride());
      }
    });
  }

  DF_HD void splat_grid(const ReversePart<T>& part, RunCursor cursor) const {
    for_row_pieces<T, NV>(stride(), [&](auto nv, int64_t offset) {
      for_run_pieces(*part.grid, cursor, count,
                     [&](const GridRun<T>& run, int64_t skip, int64_t p0, int64_t piece) {
                       splat_piece<Row<T, nv>>(*part.grid, run, skip, piece, part.sums + offset,
                                               stride(), nv, line(), [&](int64_t p, int v) {
                                                 return part.post[first + p0 + p] *
                                                        load(grad(p0 + p) + offset, v);
                                               });
                     });
    });
  }
};

template <typename T, int NV>
DF_HD void receive_messages(const ChunkReverse<T, NV>& chunk, const ReversePart<T>& part,
                            RunCursor cursor) {
  if (part.reversed == nullptr) return;
  if (part.grid != nullptr)
    chunk.slice_grid(part, cursor);
  else
    with_corners<T>(part.corners.num_corners, [&](auto k) {
      if (part.forward != nullptr)
        chunk.template slice_and_differentiate<k>(part);
      else
        chunk.template slice<k>(part);
    });
  chunk.add_compatibility_gradient(part);
  chunk.add_marginal_gradient(part);
}

template <typename T, int NV>
void reverse_of_vectors(ReverseBlock<T> block) {
  for_chunks(block, [&](int64_t first, int64_t count, RunCursor cursor) DF_FLATTEN {
    const ChunkReverse<T, NV> chunk{block, first, count};
    chunk.start();
    for (int m = 0; m < block.num_kernels; ++m) {
      const ReversePart<T> part = block.kernels[m];
      receive_messages(chunk, part, cursor);
    }
    chunk.softmax();
    splat_chunk<T>(chunk, block, cursor);
  });
}

template <typename T>
void reverse_pass(ReverseBlock<T> block) {
  with_vectors<T>(block.stride, [&](auto vectors) { reverse_of_vectors<T, vectors>(block); });
}

template <typename T>
ReverseKernels<T> make_reverse_kernels() {
  return {&reverse_pass<T>, &weight_gradient<T>, &product<T>};
}

}  // namespace
}  // namespace densefield::simd
