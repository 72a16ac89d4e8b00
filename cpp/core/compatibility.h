// The compatibility of labels, maths §2 and §6, at one node.
#pragma once

#include "densefield/compatibility_form.h"
#include "portable.h"

namespace densefield {

// q^T A m in double; `offset` is added to every entry of A.
template <typename T>
DF_HD double bilinear_form(CompatibilityForm form, const T* table, T offset, const T* q, const T* m,
                           int64_t num_labels, int64_t stride) {
  double sum = 0, q_sum = 0, m_sum = 0;
  for (int64_t l = 0; l < num_labels; ++l) {
    q_sum += double(q[l]);
    m_sum += double(m[l]);
    switch (form) {
      case CompatibilityForm::scalar: sum += double(table[0]) * double(q[l]) * double(m[l]); break;
      case CompatibilityForm::vector: sum += double(table[l]) * double(q[l]) * double(m[l]); break;
      case CompatibilityForm::matrix:
        for (int64_t k = 0; k < num_labels; ++k)
          sum += double(table[l * stride + k]) * double(q[k]) * double(m[l]);
    }
  }
  return sum + double(offset) * q_sum * m_sum;
}

}  // namespace densefield
