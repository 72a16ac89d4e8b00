// Blur neighbours of all vertices by merging sorted lists: a step in a given direction from
// vertices of a given remainder adds the same number to every key and so keeps their order.
#pragma once

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "../core/key.h"
#include "densefield/threads.h"
#include "key_layout.h"

namespace densefield::cpu {

template <int W>
struct NamedVertex {
  Key<W> key;
  int32_t vertex;
};

// By the last word, then the one before it, and so on: least significant digit first, in
// passes that each keep the order of the one before. Digits that all keys share cost one count.
template <int W>
void sort_by_key(std::vector<NamedVertex<W>>& list) {
  constexpr int kDigitBits = 11;
  constexpr size_t kNumDigits = size_t{1} << kDigitBits;
  std::vector<NamedVertex<W>> sorted(list.size());
  for (int w = 0; w < W; ++w)
    for (int shift = 0; shift < 64; shift += kDigitBits) {
      const auto digit = [&](const NamedVertex<W>& entry) {
        return static_cast<size_t>(entry.key.word[w] >> shift) & (kNumDigits - 1);
      };
      std::array<size_t, kNumDigits> place{};
      for (const auto& entry : list) ++place[digit(entry)];
      if (!list.empty() && place[digit(list.front())] == list.size()) continue;
      size_t total = 0;
      for (size_t& count : place) total += std::exchange(count, total);
      for (const auto& entry : list) sorted[place[digit(entry)]++] = entry;
      std::swap(list, sorted);
    }
}

// As numbers of W words, the last one counting most.
template <int W>
bool is_less(const Key<W>& a, const Key<W>& b) {
  for (int w = W - 1; w > 0; --w)
    if (a.word[w] != b.word[w]) return a.word[w] < b.word[w];
  return a.word[0] < b.word[0];
}

// For every direction j, the vertex that follows each one, or keys.size() for none.
template <int W>
class NeighbourSearch {
 public:
  NeighbourSearch(const std::vector<Key<W>>& keys, const KeySteps<W>& steps, int dim)
      : steps_(steps), dim_(dim), of_remainder_(static_cast<size_t>(dim) + 1) {
    for (size_t v = 0; v < keys.size(); ++v)
      of_remainder_[keys[v].word[0] & ((1u << kRemainderBits) - 1)].push_back(
          {keys[v], static_cast<int32_t>(v)});
    parallel_for(dim + 1,
                 [&](int64_t r, int) { sort_by_key(of_remainder_[static_cast<size_t>(r)]); });
  }

  void successors(int direction, std::vector<int32_t>& next) const {
    std::fill(next.begin(), next.end(), static_cast<int32_t>(next.size()));
    for (int r = 0; r <= dim_; ++r) {
      const auto& from = of_remainder_[static_cast<size_t>(r)];
      const auto& to = of_remainder_[static_cast<size_t>((r + 1) % (dim_ + 1))];
      // No branch depends on who is less: half of all neighbours are missing.
      for (size_t i = 0, k = 0; i < from.size() && k < to.size();) {
        const Key<W> wanted = steps_.neighbour(from[i].key, r, dim_, direction);
        const bool is_less_than = is_less(wanted, to[k].key), is_equal = wanted == to[k].key;
        int32_t& found = next[static_cast<size_t>(from[i].vertex)];
        found = is_equal ? to[k].vertex : found;
        i += static_cast<size_t>(is_less_than | is_equal);
        k += static_cast<size_t>(!is_less_than);
      }
    }
  }

 private:
  const KeySteps<W>& steps_;
  const int dim_;
  std::vector<std::vector<NamedVertex<W>>> of_remainder_;  // [d+1] sorted by key
};

}  // namespace densefield::cpu
