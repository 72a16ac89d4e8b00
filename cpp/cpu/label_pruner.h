#pragma once

#include "densefield/label_pruning.h"

namespace densefield::cpu {

template <typename T>
const LabelPruner<T>& label_pruner();

}  // namespace densefield::cpu
