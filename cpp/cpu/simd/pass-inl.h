// The fused mean-field pass over one block of points: slice every kernel's message,
// compatibility, softmax, splat for the next iteration. [KK11] Algorithm 1, maths §2.
// The message includes j = i and the paper's does not: `self` takes it out where asked.
//
// A pass goes through the block in chunks that stay in the first-level cache, and through a
// chunk step by step: every step is a loop over independent points, so that the processor
// works on several at once. Point by point, the softmax's chain of dependent operations
// would be waited for (measured: half the speed).
#pragma once

#include <limits>

namespace densefield::simd {
namespace {

// One chunk: points first .. first + count - 1 of the block. NV: vectors of a row, 0 for any.
template <typename T, int NV>
struct ChunkPass {
  using R = Row<T, NV>;

  // Copies, here and below: a store through a vector pointer could change what a reference
  // refers to, and everything would be read again.
  const PassBlock<T> block;
  int64_t first;
  int64_t count;
  const T* unary;  // [count, node_stride]
  T* top;          // [kPassChunk] out of the softmax: a point's largest score
  T* inverse;      // [kPassChunk] and what its terms are multiplied by

  DF_HD int64_t stride() const { return NV > 0 ? NV * kLanes<T> : block.stride; }
  DF_HD int64_t node_stride() const { return block.node_stride; }
  DF_HD T* score(int64_t p) const { return block.scratch + (1 + p) * stride(); }
  DF_HD T* line() const { return score(kPassChunk); }
  DF_HD R row(T* memory) const { return R(memory, stride() / kLanes<T>); }
  DF_HD R restored(int64_t p) const {
    R scores = row(score(p));
    scores.restore(score(p));
    return scores;
  }

  // Vector v from element `offset` on of the scores that a point starts with.
  DF_HD Vec<T> first_score(int64_t p, int64_t offset, int v) const {
    const Vec<T> score = -load(unary + p * node_stride() + offset, v);
    if (block.energy == nullptr) return score;
    return score - load(block.energy + (first + p) * stride() + offset, v);
  }
  // Scores without any message.
  DF_HD void start() const {
    for (int64_t p = 0; p < count; ++p) {
      R to = row(score(p));
      take_score(to, p, 0, true);
      to.save(score(p));
    }
  }

  // Messages and splats take a piece of all points' rows after the other. K: corners of a simplex,
  // 0 for any.
  template <int K>
  DF_HD void slice(const PassKernel<T>& kernel) const {
    const int corners = K > 0 ? K : kernel.corners.num_corners;
    for_row_pieces<T, NV>(stride(), [&](auto nv, int64_t offset) {
      for (int64_t p = 0; p < count; ++p) {
        const int64_t i = first + p;
        Row<T, nv> message(nullptr, nv);
        slice_point(kernel.corners.weight + i * corners, kernel.corners.corner + i * corners,
                    corners, kernel.vertices + offset, stride(), message);
        receive(kernel, p, offset, message);
      }
    });
  }

  DF_HD void slice_grid(const PassKernel<T>& kernel, RunCursor cursor) const {
    for_row_pieces<T, NV>(stride(), [&](auto nv, int64_t offset) {
      using M = Row<T, nv>;
      for_run_pieces(*kernel.grid, cursor, count,
                     [&](const GridRun<T>& run, int64_t skip, int64_t p0, int64_t piece) {
                       slice_piece<M>(*kernel.grid, run, skip, piece, kernel.vertices + offset,
                                      stride(), nv, line(), [&](int64_t p, auto vector) {
                                        M message(nullptr, nv);
                                        fill(message, vector);
                                        receive(kernel, p0 + p, offset, message);
                                      });
                     });
    });
  }

  // A piece of a point's message of one kernel enters its scores: score -= A_m message, in the
  // three forms of A_m (maths §6).
  template <typename M>
  DF_HD void receive(const PassKernel<T>& kernel, int64_t p, int64_t offset, M& message) const {
    const int64_t i = first + p;
    T factor = kernel.post[i];
    if (kernel.self != nullptr) {
      const T* previous = block.previous + i * stride() + offset;
      fill(message,
           [&](int v) { return factor * message.get(v) - kernel.self[i] * load(previous, v); });
      factor = T(1);
    }
    if (kernel.form == CompatibilityForm::matrix) return couple(kernel, p, offset, factor, message);
    M to(nullptr, message.size());
    take_score(to, p, offset, kernel.is_first);
    if (kernel.form == CompatibilityForm::scalar) {
      const Vec<T> scale = broadcast(factor * kernel.compatibility[0]);
      fill(to, [&](int v) { return to.get(v) - scale * message.get(v); });
    } else {
      const T* scale = kernel.compatibility + offset;
      fill(to, [&](int v) { return to.get(v) - (factor * message.get(v)) * load(scale, v); });
    }
    to.save(score(p) + offset);
  }

  // The same for a matrix: a label's message changes the scores of all labels.
  template <typename M>
  DF_HD void couple(const PassKernel<T>& kernel, int64_t p, int64_t offset, T factor,
                    const M& message) const {
    T* shares = block.scratch;
    for (int v = 0; v < message.size(); ++v) store(shares + v * kLanes<T>, factor * message.get(v));
    const int64_t labels = smaller(block.num_labels - offset, message.size() * kLanes<T>);
    for_row_pieces<T, NV>(stride(), [&](auto nv, int64_t begin) {
      Row<T, nv> to(nullptr, nv);
      take_score(to, p, begin, kernel.is_first && offset == 0);
      subtract_columns(kernel.compatibility + offset * stride() + begin, shares, labels, stride(),
                       to);
      to.save(score(p) + begin);
    });
  }

  // The first message finds the unary: reading it here hides the wait for memory.
  template <typename M>
  DF_HD void take_score(M& to, int64_t p, int64_t offset, bool is_first) const {
    if (is_first)
      fill(to, [&](int v) { return first_score(p, offset, v); });
    else
      to.restore(score(p) + offset);
  }

  // Scores become exp(score - largest); `inverse` is what they have yet to be multiplied by,
  // which the splat does in passing. Folds are taken for as many points as a vector has lanes,
  // one in each: one by one, their chains of dependent operations would be waited for.
  DF_HD void softmax() const {
    for (int64_t p = 0; p < count; p += kLanes<T>) {
      prefetch_next(p);
      Vec<T> fold[kLanes<T>];
      for (int64_t k = 0; k < kLanes<T>; ++k) {
        const R scores = restored(p + k);
        fold[k] = scores.get(0);
        for (int v = 1; v < scores.size(); ++v) fold[k] = larger(fold[k], scores.get(v));
      }
      store(top + p, larger(rest_score(p), fold_tile(fold, Larger{})));
      for (int64_t k = 0; k < kLanes<T>; ++k) {
        R scores = restored(p + k);
        const Vec<T> largest = broadcast(top[p + k]);
        Vec<T> sum = {};
        fill(scores, [&](int v) {
          const Vec<T> term = softmax_term(scores.get(v), largest);
          sum += term;
          return term;
        });
        scores.save(score(p + k));
        fold[k] = sum;
      }
      store(inverse + p, T(1) / (rest_term(p) + fold_tile(fold, Sum{})));
    }
  }

  // What labels that are left out add to the softmaxes of kLanes points, lane by lane, and a score
  // that is none of theirs but large enough for them.
  DF_HD Vec<T> rest_score(int64_t p) const {
    if (!leaves_out()) return broadcast(std::numeric_limits<T>::lowest());
    return load_unaligned(kept_term(0, p));
  }
  DF_HD Vec<T> rest_term(int64_t p) const {
    Vec<T> sum = {};
    if (!leaves_out()) return sum;
    for (int64_t c = stride(); c < node_stride(); c += kLanes<T>)
      sum += load_unaligned(kept_term(c / kLanes<T>, p));
    return sum * softmax_term(rest_score(p), load(top + p));
  }
  DF_HD bool leaves_out() const { return stride() < node_stride(); }
  DF_HD T* kept_term(int64_t v, int64_t p) const {
    return block.pruning.term + v * block.pruning.plane + first + p;
  }

  // After the softmax of the unary alone: keeps what it takes to leave out labels later.
  DF_HD void keep_terms() const {
    for (int64_t p = 0; p < count; p += kLanes<T>) {
      store_points(load(top + p), p, kept_term(0, p));
      for (int v = 1; v < num_vectors(); ++v) store_points(term_sum(p, v), p, kept_term(v, p));
    }
  }
  // After any other: marginals for PassLabels::share.
  DF_HD void measure_shares() const {
    for (int64_t p = 0; p < count; p += kLanes<T>)
      for (int v = 0; v < num_vectors(); ++v) {
        Vec<T> share = load(inverse + p) * (v == 0 ? rest_term(p) : term_sum(p, v));
        // Rows behind the chunk's last point are none.
        for (int64_t k = count - p; k < kLanes<T>; ++k) share[k] = 0;
        T* largest = block.pruning.share + v * kLanes<T>;
        // Written so that NaN wins: it must not count as little.
        const Vec<T> before = load(largest);
        store(largest, share <= before ? before : share);
      }
  }
  DF_HD int num_vectors() const { return static_cast<int>(stride() / kLanes<T>); }
  // Lane k: the sum of vector v of the terms of point p + k.
  DF_HD Vec<T> term_sum(int64_t p, int v) const {
    Vec<T> fold[kLanes<T>];
    for (int64_t k = 0; k < kLanes<T>; ++k) fold[k] = load(score(p + k), v);
    return fold_tile(fold, Sum{});
  }
  // Lanes of points p .. p + kLanes - 1, as many as the chunk has.
  DF_HD void store_points(Vec<T> x, int64_t p, T* to) const {
    if (p + kLanes<T> <= count) return store_unaligned(to, x);
    for (int64_t k = 0; k < count - p; ++k) to[k] = x[k];
  }

  // Asks for what the next chunk reads of its points p .. p + kLanes - 1. While the softmax
  // computes, memory has nothing else to do.
  DF_HD void prefetch_next(int64_t p) const {
    const int64_t i = first + kPassChunk + p, rest = block.count - i;
    const int64_t points = rest < kLanes<T> ? rest : kLanes<T>;
    if (block.unary != nullptr) {
      const T* rows = block.unary + i * node_stride();
      if (leaves_out())
        for (int64_t k = 0; k < points; ++k) prefetch(rows + k * node_stride(), stride());
      else
        prefetch(rows, points * stride());
    }
    prefetch_kernels(block, i, points);
  }

  // In place of the softmax: the scores are what is reported.
  DF_HD void keep_scores() const {
    for (int64_t p = 0; p < count; ++p) inverse[p] = T(1);
  }

  // Compares with the previous marginals and writes the new ones, where asked.
  DF_HD Vec<T> report(Vec<T> change) const {
    if (block.marginals == nullptr) return change;
    for (int64_t p = 0; p < count; ++p) {
      const int64_t offset = (first + p) * node_stride();
      for (int64_t c = 0; c < stride(); c += kLanes<T>) {
        const Vec<T> q = marginal(p, c, 0);
        if (block.change != nullptr) {
          const Vec<T> step = q - load(block.previous + offset + c);
          // Written so that NaN wins: a field of NaN must not count as converged.
          const Vec<T> size = larger(step, -step);
          change = size <= change ? change : size;
        }
        store(block.marginals + offset + c, q);
      }
      for (int64_t c = stride(); c < node_stride(); c += kLanes<T>) {
        const Vec<T> term = softmax_term(-load(unary + p * node_stride() + c), broadcast(top[p]));
        store(block.marginals + offset + c, inverse[p] * term);
      }
    }
    return change;
  }

  template <int K>
  DF_HD void splat(const PassKernel<T>& kernel) const {
    const int corners = K > 0 ? K : kernel.corners.num_corners;
    for_row_pieces<T, NV>(stride(), [&](auto nv, int64_t offset) {
      for (int64_t p = 0; p < count; ++p) {
        const int64_t i = first + p;
        Row<T, nv> scaled(nullptr, nv);
        fill(scaled, [&](int v) { return kernel.pre[i] * marginal(p, offset, v); });
        splat_point(kernel.corners.weight + i * corners, kernel.corners.corner + i * corners,
                    corners, scaled, kernel.sums + offset, stride());
      }
    });
  }

  DF_HD void splat_grid(const PassKernel<T>& kernel, RunCursor cursor) const {
    for_row_pieces<T, NV>(stride(), [&](auto nv, int64_t offset) {
      for_run_pieces(*kernel.grid, cursor, count,
                     [&](const GridRun<T>& run, int64_t skip, int64_t p0, int64_t piece) {
                       splat_piece<Row<T, nv>>(*kernel.grid, run, skip, piece, kernel.sums + offset,
                                               stride(), nv, line(), [&](int64_t p, int v) {
                                                 return kernel.pre[first + p0 + p] *
                                                        marginal(p0 + p, offset, v);
                                               });
                     });
    });
  }

  // In this order of the factors, so that marginals that were stored in between are splatted alike.
  DF_HD Vec<T> marginal(int64_t p, int64_t offset, int v) const {
    return inverse[p] * load(score(p) + offset, v);
  }
};

template <typename T, int NV>
void pass_of_vectors(PassBlock<T> block) {
  Vec<T> change = {};
  alignas(kRowBytes) T top[kPassChunk], inverse[kPassChunk];
  bool has_messages = false;
  for (int m = 0; m < block.num_kernels; ++m) has_messages |= block.kernels[m].vertices != nullptr;
  for_chunks(block, [&](int64_t first, int64_t count, RunCursor cursor) DF_FLATTEN {
    const T* unary = block.unary != nullptr ? block.unary + first * block.node_stride
                                            : block.unary_reader->next(*block.unary_reader, count);
    const ChunkPass<T, NV> chunk{block, first, count, unary, top, inverse};
    if (!has_messages) chunk.start();
    for (int m = 0; m < block.num_kernels; ++m) {
      const PassKernel<T> kernel = block.kernels[m];
      if (kernel.vertices == nullptr) continue;
      if (kernel.grid != nullptr)
        chunk.slice_grid(kernel, cursor);
      else
        with_corners<T>(kernel.corners.num_corners,
                        [&](auto k) { chunk.template slice<k>(kernel); });
    }
    if (block.wants_scores)
      chunk.keep_scores();
    else
      chunk.softmax();
    if (block.pruning.term != nullptr && !has_messages) chunk.keep_terms();
    if (block.pruning.share != nullptr) chunk.measure_shares();
    change = chunk.report(change);
    splat_chunk<T>(chunk, block, cursor);
  });
  if (block.change != nullptr) *block.change = fold_max(change)[0];
}

template <typename T>
void mean_field_pass(PassBlock<T> block) {
  with_vectors<T>(block.stride, [&](auto vectors) { pass_of_vectors<T, vectors>(block); });
}

}  // namespace
}  // namespace densefield::simd
