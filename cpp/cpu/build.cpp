// Building a lattice, maths §4 steps 1-4: embed blocks in parallel, number the vertices in
// the order of the blocks, find neighbours in parallel. Same tables on any number of threads.
#include "build.h"

#include <limits>
#include <string>

#include "block_embedder.h"
#include "densefield/error.h"
#include "densefield/threads.h"

namespace densefield::cpu {
// slots_of_vertex by counting sort, which keeps the order of the blocks.
template <typename T>
void list_slots(CpuLattice<T>& lattice) {
  const int64_t num_vertices = lattice.vertex_count, num_slots = lattice.num_slots();
  lattice.slot_start = Buffer<int64_t>(host_memory(), num_vertices + 1);
  lattice.slots_of_vertex = Buffer<int32_t>(host_memory(), num_slots);
  std::vector<int64_t> next(static_cast<size_t>(num_vertices) + 1, 0);
  for (int64_t s = 0; s < num_slots; ++s)
    ++next[static_cast<size_t>(lattice.vertex_of_slot[s]) + 1];
  for (size_t v = 0; v < static_cast<size_t>(num_vertices); ++v) next[v + 1] += next[v];
  for (int64_t v = 0; v <= num_vertices; ++v) lattice.slot_start[v] = next[static_cast<size_t>(v)];
  for (int64_t s = 0; s < num_slots; ++s)
    lattice.slots_of_vertex[next[static_cast<size_t>(lattice.vertex_of_slot[s])]++] =
        static_cast<int32_t>(s);
}

void check_vertex_count(int64_t num_vertices, int64_t num_slots) {
  if (std::max(num_vertices, num_slots) >= std::numeric_limits<int32_t>::max())
    fail_value(
        "the lattice would have more than 2^31 vertices; split the points, or use larger sigmas");
}

namespace {

// Numbers the vertices of all blocks and fills slot_begin and vertex_of_slot.
template <typename T, int W>
VertexTable<W> number_vertices(const std::vector<std::vector<Key<W>>>& keys_of_block,
                               CpuLattice<T>& lattice) {
  int64_t num_slots = 0;
  lattice.slot_begin.assign(1, 0);
  for (const auto& keys : keys_of_block) {
    num_slots += static_cast<int64_t>(keys.size());
    lattice.slot_begin.push_back(num_slots);
  }
  check_vertex_count(0, num_slots);
  lattice.vertex_of_slot = Buffer<int32_t>(host_memory(), num_slots);
  VertexTable<W> vertices(12);
  int64_t slot = 0;
  for (const auto& keys : keys_of_block)
    for (const Key<W>& key : keys) lattice.vertex_of_slot[slot++] = vertices.find_or_add(key);
  lattice.vertex_count = vertices.size();
  return vertices;
}

template <typename T, int W>
void find_neighbours(const VertexTable<W>& vertices, const KeySteps<W>& steps,
                     CpuLattice<T>& lattice) {
  constexpr int64_t kGrain = 2048;  // vertices per task: about 0.1 ms of look-ups
  const int64_t num_vertices = lattice.vertex_count;
  const int32_t missing = static_cast<int32_t>(num_vertices);
  const int corners = lattice.num_corners();
  lattice.neighbour = Buffer<int32_t>(host_memory(), corners * num_vertices * 2);
  int32_t* neighbour = lattice.neighbour.data();
  const int64_t num_tasks = (num_vertices + kGrain - 1) / kGrain;
  parallel_for(num_tasks, num_threads(), [&](int64_t task, int) {
    const int64_t end = std::min(num_vertices, (task + 1) * kGrain);
    for (int j = 0; j < corners; ++j)
      for (int64_t v = task * kGrain; v < end; ++v) neighbour[(j * num_vertices + v) * 2] = missing;
  });
  // A step in direction j maps vertices one to one, so every entry is written once.
  parallel_for(num_tasks, num_threads(), [&](int64_t task, int) {
    const int64_t end = std::min(num_vertices, (task + 1) * kGrain);
    for (int64_t v = task * kGrain; v < end; ++v) {
      const Key<W>& key = vertices.keys()[static_cast<size_t>(v)];
      const int64_t remainder = static_cast<int64_t>(key.word[0] & ((1u << kRemainderBits) - 1));
      for (int j = 0; j < corners; ++j) {
        const int32_t next =
            vertices.find(steps.neighbour(key, remainder, lattice.dimension, j), missing);
        int32_t* direction = neighbour + j * num_vertices * 2;
        direction[v * 2 + 1] = next;
        if (next != missing) direction[int64_t{next} * 2] = static_cast<int32_t>(v);
      }
    }
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
  list_slots(lattice);
  find_neighbours<T, W>(vertices, make_key_steps<W>(keys), lattice);
}

template <typename T, typename E>
void build_with_keys(const Features<T>& features, const KeyLayout& keys, CpuLattice<T>& lattice) {
  // One word serves nearly every image; the widths double so that few variants are compiled.
  if (keys.num_words <= 1) return build_tables<T, E, 1>(features, keys, lattice);
  if (keys.num_words <= 2) return build_tables<T, E, 2>(features, keys, lattice);
  if (keys.num_words <= 4) return build_tables<T, E, 4>(features, keys, lattice);
  static_assert(kMaxDim <= 2 * 16, "two 31-bit coordinates fit a word");
  return build_tables<T, E, 17>(features, keys, lattice);
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

template void list_slots(CpuLattice<float>&);
template void list_slots(CpuLattice<double>&);

}  // namespace densefield::cpu
