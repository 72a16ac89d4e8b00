// Tests of the tables that a lattice is built with; like test_threads.cpp.
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "checks.h"
#include "cpu/point_ranks.h"
#include "cpu/vertex_table.h"
#include "densefield/error.h"

namespace {

using namespace densefield;
using namespace densefield::cpu;

// ---- VertexTable -----------------------------------------------------------------------------

// Looks up random keys, of which many come again, beside a map; true if all numbers are equal.
template <int W, typename Number>
bool agrees_with_map(VertexTable<W, Number>& table, int num_lookups, uint64_t num_keys) {
  std::mt19937_64 random(num_keys);
  std::map<uint64_t, int32_t> numbers;
  bool agrees = true;
  for (int i = 0; i < num_lookups; ++i) {
    const uint64_t name = random() % num_keys;
    Key<W> key = {};
    key.word[W - 1] = name << 20;  // a field's low bits may all be 0
    const auto number = static_cast<int32_t>(numbers.size());
    const int32_t wanted = numbers.emplace(name, number).first->second;
    agrees &= table.find_or_add(key) == wanted;
    agrees &= table.keys()[static_cast<std::size_t>(wanted)] == key;
  }
  return agrees && table.size() == static_cast<int32_t>(numbers.size());
}

void test_keys_are_numbered_by_first_touch() {
  VertexTable<1> small;
  CHECK(small.size() == 0 && small.keys().empty());
  CHECK(agrees_with_map(small, 100, 40));
  VertexTable<4> wide;
  CHECK(agrees_with_map(wide, 3000, 1000));
}

void test_tables_grow_and_can_be_used_again() {
  VertexTable<1> table(10);
  CHECK(agrees_with_map(table, 100000, 30000));
  table.clear();
  CHECK(table.size() == 0);
  CHECK(agrees_with_map(table, 100000, 50000));
  VertexTable<1> expected(50000);
  CHECK(agrees_with_map(expected, 100000, 50000));
}

// Numbers of 16 bits count as many vertices as a block may have: 65535.
void test_narrow_numbers_reach_as_far_as_a_block() {
  VertexTable<1, uint16_t> table;
  bool is_right = true;
  for (int round = 0; round < 2; ++round)
    for (uint64_t name = 0; name < 65535; ++name)
      is_right &= table.find_or_add(Key<1>{{name}}) == static_cast<int32_t>(name);
  CHECK(is_right);
  CHECK(table.size() == 65535);
}

// The key of all zeros is one like others, though cells start as 0.
void test_zero_is_a_key() {
  VertexTable<2> table;
  CHECK(table.find_or_add(Key<2>{{5, 0}}) == 0);
  CHECK(table.find_or_add(Key<2>{}) == 1);
  CHECK(table.find_or_add(Key<2>{}) == 1);
  CHECK(table.find_or_add(Key<2>{{5, 0}}) == 0);
}

// ---- PointRanks ------------------------------------------------------------------------------

template <typename F>
bool is_refused(F call) {
  try {
    call();
  } catch (const Error& error) {
    return error.kind() == Error::Kind::value;
  }
  return false;
}

// Point p's ranks are 0 .. d, turned by p.
int32_t rank_of(int dim, int64_t point, int i) {
  return static_cast<int32_t>((point + i) % (dim + 1));
}

template <typename Store>
bool come_back(int dim, Store store) {
  constexpr int64_t kPoints = 37, kFirst = 5;
  PointRanks ranks(kFirst + kPoints, dim);
  store(ranks, kFirst, kPoints);
  bool are_right = true;
  for (int64_t p = 0; p < kPoints; ++p) {
    uint8_t scratch[33];
    const uint8_t* stored = ranks.of_point(kFirst + p, scratch);
    for (int i = 0; i <= dim; ++i) are_right &= stored[i] == rank_of(dim, p, i);
  }
  return are_right;
}

void test_ranks_come_back() {
  for (const int dim : {1, 2, 5, 7})
    CHECK(come_back(dim, [dim](PointRanks& ranks, int64_t first, int64_t count) {
      std::vector<int64_t> word(static_cast<std::size_t>(count), 0);
      for (int64_t p = 0; p < count; ++p)
        for (int i = 0; i <= dim; ++i)
          word[static_cast<std::size_t>(p)] += int64_t{rank_of(dim, p, i)} << (4 * i);
      ranks.store_words(first, count, word.data());
    }));
  for (const int dim : {8, 32})
    CHECK(come_back(dim, [dim](PointRanks& ranks, int64_t first, int64_t count) {
      std::vector<int32_t> plane;
      for (int i = 0; i <= dim; ++i)
        for (int64_t p = 0; p < count; ++p) plane.push_back(rank_of(dim, p, i));
      ranks.store_planes(first, count, plane.data(), count);
    }));
}

// A derivative would read beyond a point's weights.
void test_ranks_above_the_dimension_are_refused() {
  for (const int dim : {1, 5, 7}) {
    PointRanks ranks(1, dim);
    for (int i = 0; i <= dim; ++i)
      for (uint32_t rank = 0; rank < 16; ++rank) {
        const uint32_t word = rank << (4 * i);
        CHECK(is_refused([&] { ranks.store_words(0, 1, &word); }) ==
              (rank > static_cast<uint32_t>(dim)));
      }
  }
  PointRanks ranks(1, 9);
  for (const int32_t bad : {-1, 10, 256}) {
    std::vector<int32_t> plane(10, 0);
    plane[4] = bad;
    CHECK(is_refused([&] { ranks.store_planes(0, 1, plane.data(), 1); }));
  }
}

}  // namespace

int main() {
  test_keys_are_numbered_by_first_touch();
  test_tables_grow_and_can_be_used_again();
  test_narrow_numbers_reach_as_far_as_a_block();
  test_zero_is_a_key();
  test_ranks_come_back();
  test_ranks_above_the_dimension_are_refused();
  return report();
}
