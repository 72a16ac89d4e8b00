// The unary of a block's points, read where the caller has it.
#pragma once

#include <limits>

#include "prefetch.h"
#include "run_walk.h"
#include "simd/kernels.h"
#include "steps.h"

namespace densefield::cpu {

template <typename T>
class BlockUnary : public simd::UnaryReader<T> {
 public:
  // rows: scratch, [kPassChunk, stride]; order: as load_run has it
  BlockUnary(const CpuLayout& layout, const Block& block, NodeView<const T> nodes,
             const int32_t* order, int64_t stride, T* rows)
      : simd::UnaryReader<T>{[](simd::UnaryReader<T>& self, int64_t count) {
          return static_cast<BlockUnary&>(self).read(count);
        }},
        walk_(layout, block),
        nodes_(nodes),
        order_(order),
        stride_(stride),
        rows_(rows) {}

 private:
  const T* read(int64_t count) {
    T* to = rows_;
    while (count > 0) {
      const Run piece = walk_.take(count);
      // The padding's energy is above any label's, so that its marginals vanish.
      load_run(nodes_, piece, std::numeric_limits<T>::infinity(), to, stride_, order_);
      to += piece.length * stride_;
      count -= piece.length;
    }
    if (!walk_.is_done()) prefetch_run<Use::read>(nodes_, walk_.peek(simd::kPassChunk));
    return rows_;
  }

  RunWalk walk_;
  const NodeView<const T> nodes_;
  const int32_t* const order_;
  const int64_t stride_;
  T* const rows_;
};

}  // namespace densefield::cpu
