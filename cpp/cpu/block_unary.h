// The unary of a block's points, read where the caller has it.
#pragma once

#include <algorithm>
#include <limits>

#include "prefetch.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {

template <typename T>
class BlockUnary : public simd::UnaryReader<T> {
 public:
  // rows: scratch, [kPassChunk, stride]
  BlockUnary(const CpuLayout& layout, const Block& block, NodeView<const T> nodes, int64_t stride,
             T* rows)
      : simd::UnaryReader<T>{[](simd::UnaryReader<T>& self, int64_t count) {
          return static_cast<BlockUnary&>(self).read(count);
        }},
        layout_(layout),
        nodes_(nodes),
        stride_(stride),
        rows_(rows),
        run_(block.run_begin),
        end_(block.run_end) {}

 private:
  const T* read(int64_t count) {
    T* to = rows_;
    for (int64_t left = count; left > 0;) {
      const Run piece = next_piece(left);
      // The padding's energy is above any label's, so that its marginals vanish.
      load_run(nodes_, piece, std::numeric_limits<T>::infinity(), to, stride_);
      to += piece.length * stride_;
      left -= piece.length;
      skip_ += piece.length;
      if (skip_ == layout_.run(run_).length) ++run_, skip_ = 0;
    }
    if (run_ < end_) prefetch_run<Use::read>(nodes_, next_piece(simd::kPassChunk));
    return rows_;
  }

  Run next_piece(int64_t most) const {
    const Run& run = layout_.run(run_);
    return {run.node + skip_, std::min(most, run.length - skip_)};
  }

  const CpuLayout& layout_;
  const NodeView<const T> nodes_;
  const int64_t stride_;
  T* const rows_;
  int64_t run_;  // what comes next: point skip_ of this run
  const int64_t end_;
  int64_t skip_ = 0;
};

}  // namespace densefield::cpu
