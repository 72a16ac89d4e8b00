// Walks through the points of a block in pieces of neighbours.
#pragma once

#include <algorithm>

#include "layout.h"

namespace densefield::cpu {

class RunWalk {
 public:
  RunWalk(const CpuLayout& layout, const Block& block)
      : layout_(layout), run_(block.run_begin), end_(block.run_end) {}

  bool is_done() const { return run_ == end_; }
  // What comes next, at most `most` points; not when all is done.
  Run peek(int64_t most) const {
    const Run& run = layout_.run(run_);
    return {run.node + skip_, std::min(most, run.length - skip_)};
  }
  // The same, and goes on behind it.
  Run take(int64_t most) {
    const Run piece = peek(most);
    skip_ += piece.length;
    if (skip_ == layout_.run(run_).length) ++run_, skip_ = 0;
    return piece;
  }

 private:
  const CpuLayout& layout_;
  int64_t run_;
  const int64_t end_;
  int64_t skip_ = 0;  // points of that run that are behind
};

}  // namespace densefield::cpu
