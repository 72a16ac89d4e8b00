#pragma once

#include "densefield/crf.h"

namespace densefield {

// Throws Error (value) unless the values fit so many labels.
template <typename T>
void check_compatibility_size(const Compatibility<T>& compatibility, int64_t num_labels);

// The table that passes read; `num_labels` must fit the compatibility's values. Place l of a row is
// label order[l]; without an order, l. A matrix has none.
template <typename T>
CompatibilityTable<T> make_compatibility_table(Backend<T>& backend,
                                               const Compatibility<T>& compatibility,
                                               int64_t num_labels,
                                               const std::vector<int32_t>& order = {});

// A^T of A.
template <typename T>
Compatibility<T> transposed(const Compatibility<T>& compatibility, int64_t num_labels);

// A gradient by a table's values, row by row and padded, without the padding.
std::vector<double> without_padding(const std::vector<double>& values, CompatibilityForm form,
                                    int64_t num_labels, int64_t stride);

}  // namespace densefield
