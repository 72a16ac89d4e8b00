// Leaving out labels on the CPU; contracts in label_pruning.h.
#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <utility>

#include "../core/softmax.h"
#include "steps.h"
#include "vertex_tasks.h"

namespace densefield::cpu {
namespace {

// A sample is groups of neighbours, so that each line of memory that it touches is used.
constexpr int64_t kGroup = 16;
constexpr int64_t kMostGroups = 64;

// weight[c] += the squared marginals of label c at nodes first .. first + kGroup - 1, softmax of
// the unary alone. Squares: a small object counts more than a faint haze over the whole image.
template <typename T>
void add_weights(NodeView<const T> unary, int64_t first, std::vector<T>& term,
                 std::vector<double>& weight) {
  std::array<T, kGroup> least, sum{};
  for (int64_t i = 0; i < kGroup; ++i) least[static_cast<size_t>(i)] = unary.at(0, first + i);
  for (int64_t c = 1; c < unary.num_channels; ++c)
    for (int64_t i = 0; i < kGroup; ++i) {
      T& value = least[static_cast<size_t>(i)];
      value = smaller(value, unary.at(c, first + i));
    }
  for (int64_t c = 0; c < unary.num_channels; ++c)
    for (int64_t i = 0; i < kGroup; ++i) {
      const auto at = static_cast<size_t>(i);
      T& value = term[static_cast<size_t>(c * kGroup + i)];
      value = softmax_term(-unary.at(c, first + i), -least[at]);
      sum[at] += value;
    }
  for (int64_t c = 0; c < unary.num_channels; ++c)
    for (int64_t i = 0; i < kGroup; ++i) {
      const T marginal = term[static_cast<size_t>(c * kGroup + i)] / sum[static_cast<size_t>(i)];
      weight[static_cast<size_t>(c)] += static_cast<double>(marginal * marginal);
    }
}

template <typename T>
class CpuLabelPruner final : public LabelPruner<T> {
 public:
  std::vector<int32_t> order(NodeView<const T> unary) const override {
    std::vector<int32_t> labels(static_cast<size_t>(unary.num_channels));
    std::iota(labels.begin(), labels.end(), 0);
    std::vector<double> weight(labels.size());
    std::vector<T> term(labels.size() * kGroup);
    const int64_t groups = std::min(unary.num_nodes / kGroup, kMostGroups);
    for (int64_t g = 0; g < groups; ++g)
      add_weights(unary, g * (unary.num_nodes - kGroup) / groups, term, weight);
    const auto comes_first = [&](int32_t a, int32_t b) {
      const double weight_a = weight[static_cast<size_t>(a)];
      const double weight_b = weight[static_cast<size_t>(b)];
      return weight_a != weight_b ? weight_a > weight_b : a < b;
    };
    // Numbers that are none have no order; such a field leaves out nothing.
    if (std::ranges::all_of(weight, [](double w) { return w >= 0; }))
      std::ranges::sort(labels, comes_first);
    return labels;
  }

  void load_nodes(const NodeLayout& layout, NodeView<const T> from, T padding,
                  const std::vector<int32_t>& order, T* rows) const override {
    cpu::load_nodes(as_cpu(layout), from, padding, rows, order.data());
  }

  void narrow(const Lattice<T>& lattice, int64_t num_channels,
              VertexRows<T>& vertices) const override {
    CpuVertexRows<T>& rows = as_cpu(vertices);
    const int64_t num_slots = as_cpu(lattice).num_slots(), stride = padded_stride<T>(num_channels);
    // The nodes of a spatial kernel hold nothing yet: they and the slots change places.
    const bool has_room = !rows.nodes.is_empty();
    Buffer<T> slots =
        has_room ? std::move(rows.nodes) : Buffer<T>(host_memory(), num_slots * stride);
    for_vertex_tasks(num_slots, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s)
        std::copy_n(rows.slots.data() + s * rows.stride, stride, slots.data() + s * stride);
    });
    std::swap(rows.slots, slots);
    if (has_room) rows.nodes = std::move(slots);
    rows.stride = stride;
  }
};

}  // namespace

template <typename T>
const LabelPruner<T>& label_pruner() {
  static const CpuLabelPruner<T> pruner;
  return pruner;
}
template const LabelPruner<float>& label_pruner();
template const LabelPruner<double>& label_pruner();

}  // namespace densefield::cpu
