// Sums for KL divergence and energy, maths §2, in double and block by block in a fixed order.
#include <cmath>
#include <vector>

#include "../core/compatibility.h"
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

}  // namespace

template <typename T>
PairwiseEnergy pairwise_energy(const CpuLayout& layout, const T* marginals, const T* messages,
                               const T* self, const CompatibilityTable<T>& table, T offset,
                               int64_t num_labels) {
  const int64_t stride = padded_stride<T>(num_labels);
  return sum_over_rows<PairSum>(layout, [&](int64_t i, PairSum& sum) {
    const T* q = marginals + i * stride;
    const T* a = table.values.data();
    sum.pairs += bilinear_form(table.form, a, offset, q, messages + i * stride, num_labels, stride);
    sum.self += double(self[i]) * bilinear_form(table.form, a, offset, q, q, num_labels, stride);
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
