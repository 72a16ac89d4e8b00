// Building a lattice, maths §4 steps 1-4: embed blocks in parallel, number the vertices in
// the order of the blocks, find neighbours in parallel. Same tables on any number of threads.
#include "build.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "block_embedder.h"
#include "densefield/error.h"
#include "densefield/threads.h"

namespace densefield::cpu {

void check_vertex_count(int64_t count) {
  if (count >= std::numeric_limits<int32_t>::max())
    fail_value(
        "the lattice would have more than 2^31 vertices; split the points, or use larger sigmas");
}

namespace {

// Slots of vertices that have several, by vertex and in the order of the blocks.
template <typename T>
void list_shared(std::vector<std::pair<int32_t, int32_t>> repeated, CpuLattice<T>& lattice) {
  std::sort(repeated.begin(), repeated.end());
  for (size_t i = 0; i < repeated.size(); ++i) {
    const auto [vertex, slot] = repeated[i];
    if (i == 0 || repeated[i - 1].first != vertex)
      lattice.shared.slot.push_back(lattice.home[vertex]);
    lattice.shared.slot.push_back(slot);
    if (i + 1 == repeated.size() || repeated[i + 1].first != vertex) lattice.shared.close_list();
  }
}

// Numbers the vertices of all blocks; fills slot_begin, home and shared.
template <typename T, int W>
VertexTable<W> number_vertices(const std::vector<std::vector<Key<W>>>& keys_of_block,
                               CpuLattice<T>& lattice) {
  int64_t num_slots = 0;
  lattice.slot_begin.assign(1, 0);
  for (const auto& keys : keys_of_block) {
    num_slots += static_cast<int64_t>(keys.size());
    lattice.slot_begin.push_back(num_slots);
  }
  check_vertex_count(num_slots);
  VertexTable<W> vertices(12);
  std::vector<int32_t> home;
  std::vector<std::pair<int32_t, int32_t>> repeated;  // vertex, slot
  int32_t slot = 0;
  for (const auto& keys : keys_of_block)
    for (const Key<W>& key : keys) {
      const int32_t vertex = vertices.find_or_add(key);
      if (static_cast<size_t>(vertex) == home.size())
        home.push_back(slot);
      else
        repeated.emplace_back(vertex, slot);
      ++slot;
    }
  lattice.vertex_count = vertices.size();
  lattice.home = Buffer<int32_t>(host_memory(), lattice.vertex_count);
  std::copy(home.begin(), home.end(), lattice.home.data());
  list_shared(std::move(repeated), lattice);
  return vertices;
}

// For every direction, the vertex that follows each one, or `missing`.
template <int W>
std::vector<std::vector<int32_t>> find_successors(const VertexTable<W>& vertices,
                                                  const KeySteps<W>& steps, int dim,
                                                  int32_t missing) {
  constexpr int64_t kGrain = 2048;  // vertices per task: about 0.1 ms of look-ups
  const int64_t num_vertices = vertices.size();
  std::vector<std::vector<int32_t>> next(static_cast<size_t>(dim) + 1,
                                         std::vector<int32_t>(static_cast<size_t>(num_vertices)));
  parallel_for((num_vertices + kGrain - 1) / kGrain, [&](int64_t task, int) {
    const int64_t end = std::min(num_vertices, (task + 1) * kGrain);
    for (int64_t v = task * kGrain; v < end; ++v) {
      const Key<W>& key = vertices.keys()[static_cast<size_t>(v)];
      const auto remainder = static_cast<int64_t>(key.word[0] & ((1u << kRemainderBits) - 1));
      for (int j = 0; j <= dim; ++j)
        next[static_cast<size_t>(j)][static_cast<size_t>(v)] =
            vertices.find(steps.neighbour(key, remainder, dim, j), missing);
    }
  });
  return next;
}

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
void find_chains(const VertexTable<W>& vertices, const KeySteps<W>& steps, CpuLattice<T>& lattice) {
  const auto missing = static_cast<int32_t>(lattice.vertex_count);
  const auto next = find_successors(vertices, steps, lattice.dimension, missing);
  lattice.chains.resize(next.size());
  parallel_for(lattice.dimension + 1, [&](int64_t j, int) {
    list_chains(next[static_cast<size_t>(j)], lattice.home.data(),
                lattice.chains[static_cast<size_t>(j)]);
  });
}

template <typename T, typename E, int W>
void build_tables(const Features<T>& features, const KeyLayout& keys, CpuLattice<T>& lattice) {
  const auto& blocks = lattice.layout->blocks();
  std::vector<std::vector<Key<W>>> keys_of_block(blocks.size());
  const int num_workers = num_threads();
  std::vector<std::unique_ptr<BlockEmbedder<T, E, W>>> embedder(static_cast<size_t>(num_workers));
  parallel_for(lattice.layout->num_blocks(), num_workers, [&](int64_t block, int worker) {
    auto& mine = embedder[static_cast<size_t>(worker)];
    if (!mine) mine = std::make_unique<BlockEmbedder<T, E, W>>(features, keys, lattice);
    keys_of_block[static_cast<size_t>(block)] = mine->embed(blocks[static_cast<size_t>(block)]);
  });
  const VertexTable<W> vertices = number_vertices<T, W>(keys_of_block, lattice);
  find_chains<T, W>(vertices, make_key_steps<W>(keys), lattice);
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
