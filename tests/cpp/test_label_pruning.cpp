// Tests of mean field that leaves out labels: that it does, when it takes them back, and that its
// marginals are those of a field that never leaves out any.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "checks.h"
#include "densefield/crf.h"

namespace {

using namespace densefield;

constexpr float kMostError = 1e-5F;

std::shared_ptr<const CrfModel<float>> make_model(const Grid& grid, float sigma, bool on_grid,
                                                  Normalization normalization) {
  KernelSpec<float> spec{};
  spec.normalization = normalization;
  const std::vector<float> sigmas(grid.extent.size(), sigma);
  if (on_grid)
    spec.grid_sigma = sigmas;
  else
    spec.features.sigma_position = sigmas;
  return std::make_shared<const CrfModel<float>>(cpu_backend<float>(), grid,
                                                 std::vector<KernelSpec<float>>{spec}, false);
}

Compatibility<float> potts(float weight) { return {CompatibilityForm::scalar, {-weight}, weight}; }

struct Table {
  int64_t num_nodes;
  int64_t num_labels;
  std::vector<float> value;  // [num_labels, num_nodes]

  Table(int64_t nodes, int64_t labels, float fill)
      : num_nodes(nodes),
        num_labels(labels),
        value(static_cast<std::size_t>(nodes * labels), fill) {}
  float& at(int64_t label, int64_t node) {
    return value[static_cast<std::size_t>(label * num_nodes + node)];
  }
  NodeView<float> view() { return {value.data(), num_nodes, num_labels, 1, num_nodes}; }
  NodeView<const float> const_view() const {
    return {value.data(), num_nodes, num_labels, 1, num_nodes};
  }
};

float largest_difference(const Table& a, const Table& b) {
  float largest = 0;
  for (std::size_t i = 0; i < a.value.size(); ++i)
    largest = std::max(largest, std::abs(a.value[i] - b.value[i]));
  return largest;
}

struct Run {
  Table marginals;
  std::vector<int64_t> num_active;  // after each update
};

// `prunes` as far as labels allow it: keeping marginals excludes it.
Run run(const std::shared_ptr<const CrfModel<float>>& model, const Table& unary,
        const Compatibility<float>& compatibility, int updates, bool prunes,
        bool returns_scores = false) {
  MeanField<float> field(model, {compatibility}, unary.const_view(), !prunes, returns_scores,
                         false);
  Run result{Table(unary.num_nodes, unary.num_labels, -1), {}};
  for (int update = 1; update < updates; ++update) {
    field.update(false);
    result.num_active.push_back(field.num_active_labels());
  }
  field.finish([&] { return result.marginals.view(); });
  return result;
}

// Six labels in regions of their own, two that compete in a seventh, and one that is likely at a
// single node: there the message of label 0 drowns it, until label 1 has come and taken the nodes
// around. Nodes pinned to a label have energies of 40 for all others.
Table front_that_frees_a_label() {
  constexpr float kPinned = 40;
  Table unary(400, 9, kPinned);
  for (int64_t node = 0; node < 400; ++node) unary.at(1, node) = 0;
  for (int64_t region = 0; region < 6; ++region)
    for (int64_t node = 200 + 30 * region; node < 220 + 30 * region; ++node) {
      unary.at(1, node) = kPinned;
      unary.at(2 + region, node) = 0;
    }
  for (int64_t node = 60; node < 72; ++node) {
    unary.at(0, node) = -std::log(0.7F);
    unary.at(1, node) = -std::log(0.3F);
  }
  unary.at(8, 66) = 0;
  unary.at(0, 66) = 2;
  unary.at(1, 66) = 35;
  return unary;
}

void test_a_label_comes_back() {
  const Table unary = front_that_frees_a_label();
  for (const float sigma : {4.0F, 4.4F}) {
    const auto model = make_model({{400}}, sigma, true, Normalization::symmetric);
    // Long enough for it to be left out and to come back, and ended at any update in between.
    const Run longest = run(model, unary, potts(20), 12, true);
    CHECK(std::ranges::count(longest.num_active, 8) > 0);
    CHECK(longest.num_active.back() == 9);
    for (int updates = 1; updates <= 12; ++updates) {
      const Run pruned = run(model, unary, potts(20), updates, true);
      const Run whole = run(model, unary, potts(20), updates, false);
      CHECK(largest_difference(pruned.marginals, whole.marginals) < kMostError);
      if (updates == 12) CHECK(whole.marginals.value[8 * 400 + 66] > 0.9F);
    }
  }
}

// Labels whose energies lie around `base`, most of them far from likely.
Table few_likely_labels(int64_t num_nodes, int64_t num_labels) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> noise(0, 1);
  Table unary(num_nodes, num_labels, 0);
  for (int64_t node = 0; node < num_nodes; ++node)
    for (int64_t label = 0; label < num_labels; ++label) {
      // Every ninth label is likely: the order of the labels has to change.
      const float base = label % 9 == 4 ? 0.0F : 9.0F;
      unary.at(label, node) = base + noise(random);
    }
  return unary;
}

void test_marginals_are_those_of_all_labels() {
  const Grid grid{{37, 51}};
  for (const int64_t num_labels : {9, 21, 33, 70})
    for (const bool on_grid : {true, false}) {
      const auto model = make_model(grid, 3, on_grid, Normalization::symmetric);
      const Table unary = few_likely_labels(grid.num_nodes(), num_labels);
      Compatibility<float> vector{CompatibilityForm::vector, {}, 0};
      for (int64_t label = 0; label < num_labels; ++label)
        vector.values.push_back(-1 - 0.05F * static_cast<float>(label));
      for (const Compatibility<float>& compatibility : {potts(4), vector})
        for (const int updates : {2, 3, 6}) {
          const Run pruned = run(model, unary, compatibility, updates, true);
          const Run whole = run(model, unary, compatibility, updates, false);
          CHECK(pruned.num_active.back() == 8);
          CHECK(whole.num_active.back() == num_labels);
          CHECK(largest_difference(pruned.marginals, whole.marginals) < kMostError);
        }
    }
}

// What says nothing about other labels' messages, or about their size, leaves out none.
void test_all_labels_stay_where_they_matter() {
  const Grid grid{{20, 20}};
  const Table unary = few_likely_labels(grid.num_nodes(), 12);
  const auto model = make_model(grid, 3, true, Normalization::symmetric);
  CHECK(run(model, unary, potts(4), 3, true).num_active.back() == 8);
  CHECK(run(model, unary, potts(4), 3, true, true).num_active.back() == 12);  // scores
  CHECK(run(model, unary, potts(50), 3, true).num_active.back() == 12);
  const auto plain = make_model(grid, 3, true, Normalization::none);
  CHECK(run(plain, unary, potts(4), 3, true).num_active.back() == 12);
  Compatibility<float> matrix{CompatibilityForm::matrix, std::vector<float>(144, 0.5F), 0};
  CHECK(run(model, unary, matrix, 3, true).num_active.back() == 12);
  CHECK(run(model, Table(grid.num_nodes(), 12, 1), potts(4), 3, true).num_active.back() == 12);
  Table broken = unary;
  broken.at(3, 7) = NAN;
  CHECK(run(model, broken, potts(4), 3, true).num_active.back() == 12);
}

}  // namespace

int main() {
  test_a_label_comes_back();
  test_marginals_are_those_of_all_labels();
  test_all_labels_stay_where_they_matter();
  return report();
}
