// The fused mean-field pass for two labels, on one number per node: backend.h, BinaryPass.
// Messages are gathered point by point; the rest is done for a vector of points at once.
#pragma once

namespace densefield::simd {
namespace {

template <typename T>
struct BinaryChunk {
  const BinaryBlock<T>& block;
  int64_t first;
  int64_t count;
  T* score;    // [kPassChunk] scratch
  T* message;  // [kPassChunk] scratch
  T* line;     // [kLineRows] scratch

  template <typename Body>
  DF_HD void for_vectors(Body body) const {
    for (int64_t p = 0; p < kPassChunk; p += kLanes<T>) body(p);
  }

  DF_HD void load_score() const {
    const T* from = block.score + first;
    if (count == kPassChunk)
      return for_vectors([&](int64_t p) { store(score + p, load_unaligned(from + p)); });
    for (int64_t p = 0; p < count; ++p) score[p] = from[p];
  }

  template <int K>
  DF_HD void slice(const BinaryPart<T>& kernel) const {
    const int corners = K > 0 ? K : kernel.corners.num_corners;
    for (int64_t p = 0; p < count; ++p) {
      const int64_t entry = (first + p) * corners;
      Row<T, kSingle> sum(nullptr, 1);
      slice_point(kernel.corners.weight + entry, kernel.corners.corner + entry, corners,
                  kernel.vertices, 1, sum);
      message[p] = sum.get(0);
    }
  }

  DF_HD void slice_grid(const BinaryPart<T>& kernel, RunCursor cursor) const {
    for_run_pieces(*kernel.grid, cursor, count,
                   [&](const GridRun<T>& run, int64_t skip, int64_t p0, int64_t piece) {
                     slice_single(*kernel.grid, run, skip, piece, kernel.vertices, line,
                                  message + p0);
                   });
  }

  DF_HD void add_message(const BinaryPart<T>& kernel) const {
    multiply(kernel.post + first, message, message);
    for_vectors([&](int64_t p) {
      store(score + p, load(score + p) - kernel.coupling * load(message + p));
    });
  }

  // Scores become t = q_1 - q_0; marginals go out where asked.
  DF_HD void squash() const {
    T high[kPassChunk];
    for_vectors([&](int64_t p) {
      const BinaryMarginals<Vec<T>> q = binary_marginals(load(score + p));
      store(score + p, q.difference);
      store_unaligned(high + p, q.marginal_1);
      store(message + p, q.marginal_0);
    });
    if (block.marginal_1 == nullptr) return;
    for (int64_t p = 0; p < count; ++p) {
      block.marginal_0[first + p] = message[p];
      block.marginal_1[first + p] = high[p];
    }
  }

  template <int K>
  DF_HD void splat(const BinaryPart<T>& kernel) const {
    const int corners = K > 0 ? K : kernel.corners.num_corners;
    multiply(kernel.pre + first, score, message);
    for (int64_t p = 0; p < count; ++p) {
      const int64_t entry = (first + p) * corners;
      Row<T, kSingle> value(nullptr, 1);
      value.set(0, message[p]);
      splat_point(kernel.corners.weight + entry, kernel.corners.corner + entry, corners, value,
                  kernel.sums, 1);
    }
  }

  DF_HD void splat_grid(const BinaryPart<T>& kernel, RunCursor cursor) const {
    multiply(kernel.pre + first, score, message);
    for_run_pieces(*kernel.grid, cursor, count,
                   [&](const GridRun<T>& run, int64_t skip, int64_t p0, int64_t piece) {
                     splat_single(*kernel.grid, run, skip, piece, message + p0, line, kernel.sums);
                   });
  }

  // to = factor * from; the factor has `count` elements, the others are scratch.
  DF_HD void multiply(const T* factor, const T* from, T* to) const {
    if (count == kPassChunk)
      return for_vectors(
          [&](int64_t p) { store(to + p, load_unaligned(factor + p) * load(from + p)); });
    for (int64_t p = 0; p < count; ++p) to[p] = factor[p] * from[p];
  }
};

template <typename T>
void binary_pass(const BinaryBlock<T>& block) {
  alignas(kRowBytes) T score[kPassChunk] = {};
  alignas(kRowBytes) T message[kPassChunk] = {};
  T line[kLineRows];
  for_chunks(block, [&](int64_t first, int64_t count, RunCursor cursor) {
    const BinaryChunk<T> chunk{block, first, count, score, message, line};
    chunk.load_score();
    for (int m = 0; m < block.num_kernels; ++m) {
      const BinaryPart<T>& kernel = block.kernels[m];
      if (kernel.vertices == nullptr) continue;
      if (kernel.grid != nullptr)
        chunk.slice_grid(kernel, cursor);
      else
        with_corners<T>(kernel.corners.num_corners,
                        [&](auto k) { chunk.template slice<k>(kernel); });
      chunk.add_message(kernel);
    }
    chunk.squash();
    splat_chunk<T>(chunk, block, cursor);
  });
}

}  // namespace
}  // namespace densefield::simd
