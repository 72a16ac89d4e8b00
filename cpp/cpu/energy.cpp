// Sums for KL divergence and energy, maths §2, in double and block by block in a fixed order.
#include <cmath>
#include <vector>

#include "densefield/threads.h"
#include "steps.h"

namespace densefield::cpu {
namespace {

// Sum of term(i) over all rows.
template <typename Sum, typename Term>
Sum sum_over_rows(const CpuLayout& layout, Term term) {
  std::vector<Sum> part(static_cast<size_t>(layout.num_blocks()));
  parallel_for(layout.num_blocks(), [&](int64_t index, int) {
    const Block& block = layout.blocks()[static_cast<size_t>(index)];
    Sum sum{};
    for (int64_t i = block.begin; i < block.end; ++i) term(i, sum);
    part[static_cast<size_t>(index)] = sum;
  });
  Sum total{};
  for (const Sum& p : part) total += p;
  return total;
}

struct PairSum : PairwiseEnergy {
  PairSum& operator+=(const PairSum& other) {
    pairs += other.pairs;
    self += other.self;
    return *this;
  }
};

// q^T A m of one node; `offset` is added to every entry of A.
template <typename T>
double bilinear_form(const CompatibilityTable<T>& table, T offset, const T* q, const T* m,
                     int64_t num_labels, int64_t stride) {
  const T* a = table.values.data();
  double sum = 0, q_sum = 0, m_sum = 0;
  for (int64_t l = 0; l < num_labels; ++l) {
    q_sum += double(q[l]);
    m_sum += double(m[l]);
    switch (table.form) {
      case CompatibilityForm::scalar: sum += double(a[0]) * double(q[l]) * double(m[l]); break;
      case CompatibilityForm::vector: sum += double(a[l]) * double(q[l]) * double(m[l]); break;
      case CompatibilityForm::matrix:
        for (int64_t k = 0; k < num_labels; ++k)
          sum += double(a[l * stride + k]) * double(q[k]) * double(m[l]);
    }
  }
  return sum + double(offset) * q_sum * m_sum;
}

}  // namespace

template <typename T>
PairwiseEnergy pairwise_energy(const CpuLayout& layout, const T* marginals, const T* messages,
                               const T* self, const CompatibilityTable<T>& table, T offset,
                               int64_t num_labels) {
  const int64_t stride = padded_stride<T>(num_labels);
  return sum_over_rows<PairSum>(layout, [&](int64_t i, PairSum& sum) {
    const T* q = marginals + i * stride;
    sum.pairs += bilinear_form(table, offset, q, messages + i * stride, num_labels, stride);
    sum.self += double(self[i]) * bilinear_form(table, offset, q, q, num_labels, stride);
  });
}

template <typename T>
double unary_energy(const CpuLayout& layout, const T* marginals, const T* unary,
                    int64_t num_labels) {
  const int64_t stride = padded_stride<T>(num_labels);
  return sum_over_rows<double>(layout, [&](int64_t i, double& sum) {
    for (int64_t l = 0; l < num_labels; ++l)
      sum += double(marginals[i * stride + l]) * double(unary[i * stride + l]);
  });
}

template <typename T>
double negative_entropy(const CpuLayout& layout, const T* marginals, int64_t num_labels) {
  const int64_t stride = padded_stride<T>(num_labels);
  return sum_over_rows<double>(layout, [&](int64_t i, double& sum) {
    for (int64_t l = 0; l < num_labels; ++l) {
      const double q = double(marginals[i * stride + l]);
      if (q > 0) sum += q * std::log(q);
    }
  });
}

#define DF_INSTANTIATE(T)                                                                 \
  template PairwiseEnergy pairwise_energy(const CpuLayout&, const T*, const T*, const T*, \
                                          const CompatibilityTable<T>&, T, int64_t);      \
  template double unary_energy(const CpuLayout&, const T*, const T*, int64_t);            \
  template double negative_entropy(const CpuLayout&, const T*, int64_t);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cpu
