// What the updates of one inference, or of its way back, work in.
#pragma once

namespace densefield {

// Memory that is taken before the first update, so that none takes any. What it holds is the
// backend's own; updates that share it run one after another.
template <typename T>
class UpdateScratch {
 public:
  virtual ~UpdateScratch() = default;
};

}  // namespace densefield
