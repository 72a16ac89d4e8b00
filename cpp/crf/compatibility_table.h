#pragma once

#include "densefield/crf.h"

namespace densefield {

// Throws Error (value) unless the values fit so many labels.
template <typename T>
void check_compatibility_size(const Compatibility<T>& compatibility, int64_t num_labels);

// The table that passes read; `num_labels` must fit the compatibility's values.
template <typename T>
CompatibilityTable<T> make_compatibility_table(Backend<T>& backend,
                                               const Compatibility<T>& compatibility,
                                               int64_t num_labels);

}  // namespace densefield
