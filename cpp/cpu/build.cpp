// Building a lattice, maths §4 steps 1-4: embed blocks in parallel, number the vertices in
// the order of the blocks, find neighbours in parallel. Same tables on any number of threads.
#include "build.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>

#include "../plan/key_layout.h"
#include "block_embedder.h"
#include "densefield/error.h"
#include "densefield/threads.h"
#include "neighbours.h"

namespace densefield::cpu {

namespace {

// The table of all vertices is kept in parts by bits of the hash that do not place a key
// within its part, so that threads can fill them at once and in the same order.
constexpr size_t kNumParts = 16;
size_t part_of(uint64_t hashed) { return hashed >> 20 & (kNumParts - 1); }

// The vertices that one block touches, by slot and by part of the lattice's table.
template <int W>
struct BlockVertices {
  std::vector<Key<W>> keys;
  std::vector<int32_t> order;                 // slots of part 0, part 1, ..
  std::array<int32_t, kNumParts + 1> part{};  // where each begins in `order`

  BlockVertices() = default;
  explicit BlockVertices(std::vector<Key<W>> of_slots)
      : keys(std::move(of_slots)), order(keys.size()) {
    for (const Key<W>& key : keys) ++part[part_of(hash(key)) + 1];
    for (size_t p = 0; p < kNumParts; ++p) part[p + 1] += part[p];
    auto next = part;
    for (size_t s = 0; s < keys.size(); ++s)
      order[static_cast<size_t>(next[part_of(hash(keys[s]))]++)] = static_cast<int32_t>(s);
  }
};

// All vertices of a lattice, from a table in parts that threads fill independently.
template <typename T, int W>
class VertexNumbers {
 public:
  VertexNumbers(const std::vector<BlockVertices<W>>& blocks, CpuLattice<T>& lattice)
      : blocks_(blocks), lattice_(lattice) {
    lattice_.slot_begin.assign(1, 0);
    for (const auto& block : blocks_)
      lattice_.slot_begin.push_back(lattice_.slot_begin.back() +
                                    static_cast<int64_t>(block.keys.size()));
    check_vertex_count(lattice_.num_slots());
    home_of_slot_ = Buffer<int32_t>(host_memory(), lattice_.num_slots());
    parallel_for(kNumParts, [&](int64_t p, int) { fill_part(static_cast<size_t>(p)); });
    number_homes();
    list_shared();
  }

  const std::vector<Key<W>>& keys() const { return keys_; }

 private:
  void fill_part(size_t p) {
    VertexTable<W> table;
    std::vector<int32_t> home;  // of each entry
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const BlockVertices<W>& block = blocks_[b];
      const auto first = static_cast<int32_t>(lattice_.slot_begin[b]);
      for (int32_t i = block.part[p]; i < block.part[p + 1]; ++i) {
        const int32_t slot = block.order[static_cast<size_t>(i)];
        const auto entry =
            static_cast<size_t>(table.find_or_add(block.keys[static_cast<size_t>(slot)]));
        if (entry == home.size()) home.push_back(first + slot);
        home_of_slot_[first + slot] = home[entry];
      }
    }
  }

  // Vertices are numbered in the order of their homes.
  void number_homes() {
    vertex_of_home_ = Buffer<int32_t>(host_memory(), lattice_.num_slots());
    std::vector<int32_t> home;
    home.reserve(static_cast<size_t>(lattice_.num_slots()));
    keys_.reserve(static_cast<size_t>(lattice_.num_slots()));
    int32_t slot = 0;
    for (const auto& block : blocks_)
      for (const Key<W>& key : block.keys) {
        if (home_of_slot_[slot] == slot) {
          vertex_of_home_[slot] = static_cast<int32_t>(home.size());
          home.push_back(slot);
          keys_.push_back(key);
        }
        ++slot;
      }
    lattice_.vertex_count = static_cast<int64_t>(home.size());
    lattice_.home = Buffer<int32_t>(host_memory(), lattice_.vertex_count);
    std::copy(home.begin(), home.end(), lattice_.home.data());
  }

  // Slots of vertices that have several, by vertex and in the order of the blocks.
  void list_shared() {
    const auto num_vertices = static_cast<size_t>(lattice_.vertex_count);
    std::vector<int32_t> num_more(num_vertices, 0);
    for (int64_t slot = 0; slot < lattice_.num_slots(); ++slot)
      if (home_of_slot_[slot] != slot)
        ++num_more[static_cast<size_t>(vertex_of_home_[home_of_slot_[slot]])];
    std::vector<size_t> next(num_vertices);  // where a vertex's next slot goes
    SlotLists& shared = lattice_.shared;
    for (size_t v = 0; v < num_vertices; ++v) {
      if (num_more[v] == 0) continue;
      shared.slot.push_back(lattice_.home[static_cast<int64_t>(v)]);
      next[v] = shared.slot.size();
      shared.slot.resize(shared.slot.size() + static_cast<size_t>(num_more[v]));
      shared.close_list();
    }
    for (int32_t slot = 0; slot < lattice_.num_slots(); ++slot) {
      const int32_t home = home_of_slot_[slot];
      if (home != slot) shared.slot[next[static_cast<size_t>(vertex_of_home_[home])]++] = slot;
    }
  }

  const std::vector<BlockVertices<W>>& blocks_;
  CpuLattice<T>& lattice_;
  Buffer<int32_t> home_of_slot_;    // [slots]
  Buffer<int32_t> vertex_of_home_;  // [slots], of homes only
  std::vector<Key<W>> keys_;        // [M]
};

// Chains of two vertices and more; a vertex without neighbours is left alone by the blur.
void list_chains(const std::vector<int32_t>& next, const int32_t* home, SlotLists& chains) {
  const auto missing = static_cast<int32_t>(next.size());
  std::vector<uint8_t> has_previous(next.size() + 1, 0);
  for (int32_t successor : next) has_previous[static_cast<size_t>(successor)] = 1;
  for (int32_t v = 0; v < missing; ++v) {
    if (has_previous[static_cast<size_t>(v)] || next[static_cast<size_t>(v)] == missing) continue;
    for (int32_t link = v; link != missing; link = next[static_cast<size_t>(link)])
      chains.slot.push_back(home[link]);
    chains.close_list();
  }
  chains.start.shrink_to_fit();
  chains.slot.shrink_to_fit();
}

template <typename T, int W>
void find_chains(const std::vector<Key<W>>& vertices, const KeySteps<W>& steps,
                 CpuLattice<T>& lattice) {
  const NeighbourSearch<W> neighbours(vertices, steps, lattice.dimension);
  lattice.chains.resize(static_cast<size_t>(lattice.num_corners()));
  parallel_for(lattice.num_corners(), [&](int64_t j, int) {
    std::vector<int32_t> next(vertices.size());
    neighbours.successors(static_cast<int>(j), next);
    list_chains(next, lattice.home.data(), lattice.chains[static_cast<size_t>(j)]);
  });
}

template <typename T, typename E, int W>
void build_tables(const Features<T>& features, const KeyLayout& keys, CpuLattice<T>& lattice) {
  const auto& blocks = lattice.layout->blocks();
  std::vector<BlockVertices<W>> vertices_of_block(blocks.size());
  const int num_workers = num_threads();
  std::vector<std::unique_ptr<BlockEmbedder<T, E, W>>> embedder(static_cast<size_t>(num_workers));
  parallel_for(lattice.layout->num_blocks(), num_workers, [&](int64_t block, int worker) {
    auto& mine = embedder[static_cast<size_t>(worker)];
    if (!mine) mine = std::make_unique<BlockEmbedder<T, E, W>>(features, keys, lattice);
    vertices_of_block[static_cast<size_t>(block)] =
        BlockVertices<W>(mine->embed(blocks[static_cast<size_t>(block)]));
  });
  const VertexNumbers<T, W> vertices(vertices_of_block, lattice);
  find_chains<T, W>(vertices.keys(), make_key_steps<W>(keys), lattice);
}

template <typename T, typename E>
void build_with_keys(const Features<T>& features, const KeyLayout& keys, CpuLattice<T>& lattice) {
  // One word serves nearly every image; the widths double so that few variants are compiled.
  if (keys.num_words <= 1) return build_tables<T, E, 1>(features, keys, lattice);
  if (keys.num_words <= 2) return build_tables<T, E, 2>(features, keys, lattice);
  if (keys.num_words <= 4) return build_tables<T, E, 4>(features, keys, lattice);
  constexpr int kMostWords = 17;
  static_assert(1 + kMaxDim / 2 <= kMostWords, "two coordinates of up to 32 bits fit a word");
  return build_tables<T, E, kMostWords>(features, keys, lattice);
}

}  // namespace

template <typename T>
std::shared_ptr<const CpuLattice<T>> build_lattice(std::shared_ptr<const CpuLayout> layout,
                                                   const Features<T>& features) {
  const KeyLayout keys = make_key_layout(*layout, features);
  auto lattice = std::make_shared<CpuLattice<T>>();
  lattice->dimension = keys.dim;
  lattice->corners = keys.dim + 1;
  lattice->layout = std::move(layout);
  const int64_t entries = lattice->num_points() * lattice->num_corners();
  lattice->weight = Buffer<T>(host_memory(), entries);
  lattice->corner = Buffer<uint16_t>(host_memory(), entries);
  lattice->rank = Buffer<uint8_t>(host_memory(), entries);
  if (sizeof(T) == sizeof(double) || keys.needs_double)
    build_with_keys<T, double>(features, keys, *lattice);
  else
    build_with_keys<T, float>(features, keys, *lattice);
  return lattice;
}

template std::shared_ptr<const CpuLattice<float>> build_lattice(std::shared_ptr<const CpuLayout>,
                                                                const Features<float>&);
template std::shared_ptr<const CpuLattice<double>> build_lattice(std::shared_ptr<const CpuLayout>,
                                                                 const Features<double>&);

}  // namespace densefield::cpu
