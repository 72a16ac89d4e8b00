#include "compatibility_table.h"

#include <string>

#include "densefield/error.h"

namespace densefield {
namespace {

size_t expected_size(CompatibilityForm form, int64_t num_labels) {
  const auto labels = static_cast<size_t>(num_labels);
  switch (form) {
    case CompatibilityForm::scalar: return 1;
    case CompatibilityForm::vector: return labels;
    default: return labels * labels;
  }
}

}  // namespace

template <typename T>
void check_compatibility_size(const Compatibility<T>& compatibility, int64_t num_labels) {
  if (compatibility.values.size() != expected_size(compatibility.form, num_labels))
    fail_value("compatibility has " + std::to_string(compatibility.values.size()) +
               " values, which does not fit the " + std::to_string(num_labels) +
               " labels of the unary; pass (C,) or (C, C) values for C labels");
}

template <typename T>
CompatibilityTable<T> make_compatibility_table(Backend<T>& backend,
                                               const Compatibility<T>& compatibility,
                                               int64_t num_labels,
                                               const std::vector<int32_t>& order) {
  check_compatibility_size(compatibility, num_labels);
  const auto label_at = [&](int64_t place) {
    return order.empty() ? static_cast<size_t>(place)
                         : static_cast<size_t>(order[static_cast<size_t>(place)]);
  };
  const int64_t stride = backend.row_stride(num_labels);
  const int64_t rows = compatibility.form == CompatibilityForm::matrix ? num_labels : 1;
  std::vector<T> padded(static_cast<size_t>(rows * stride), T(0));
  for (int64_t l = 0; l < num_labels; ++l) switch (compatibility.form) {
      case CompatibilityForm::scalar: padded[0] = compatibility.values[0]; break;
      case CompatibilityForm::vector:
        padded[static_cast<size_t>(l)] = compatibility.values[label_at(l)];
        break;
      case CompatibilityForm::matrix:
        // Column l' is one row of the table: values[l][l'] goes to padded[l'][l].
        for (int64_t k = 0; k < num_labels; ++k)
          padded[static_cast<size_t>(l * stride + k)] =
              compatibility.values[static_cast<size_t>(k * num_labels + l)];
    }
  CompatibilityTable<T> table;
  table.form = compatibility.form;
  table.values = Buffer<T>(backend.memory(), rows * stride);
  backend.upload(padded.data(), rows * stride, table.values.data());
  return table;
}

template void check_compatibility_size(const Compatibility<float>&, int64_t);
template void check_compatibility_size(const Compatibility<double>&, int64_t);
template <typename T>
Compatibility<T> transposed(const Compatibility<T>& compatibility, int64_t num_labels) {
  Compatibility<T> result = compatibility;
  if (compatibility.form != CompatibilityForm::matrix) return result;
  const auto labels = static_cast<size_t>(num_labels);
  for (size_t l = 0; l < labels; ++l)
    for (size_t k = 0; k < labels; ++k)
      result.values[k * labels + l] = compatibility.values[l * labels + k];
  return result;
}

std::vector<double> without_padding(const std::vector<double>& values, CompatibilityForm form,
                                    int64_t num_labels, int64_t stride) {
  if (form == CompatibilityForm::scalar) return {values[0]};
  std::vector<double> result;
  const int64_t rows = form == CompatibilityForm::matrix ? num_labels : 1;
  for (int64_t l = 0; l < rows; ++l)
    for (int64_t k = 0; k < num_labels; ++k)
      result.push_back(values[static_cast<size_t>(l * stride + k)]);
  return result;
}

template Compatibility<float> transposed(const Compatibility<float>&, int64_t);
template Compatibility<double> transposed(const Compatibility<double>&, int64_t);
template CompatibilityTable<float> make_compatibility_table(Backend<float>&,
                                                            const Compatibility<float>&, int64_t,
                                                            const std::vector<int32_t>&);
template CompatibilityTable<double> make_compatibility_table(Backend<double>&,
                                                             const Compatibility<double>&, int64_t,
                                                             const std::vector<int32_t>&);

}  // namespace densefield
