// Building a lattice, maths §4 steps 1-4: embed the points, sort the keys of their corners, and
// number the distinct ones in that order. Same tables in any order of threads.
#include <limits>

#include "embed.cuh"
#include "key_layout.cuh"
#include "launch.cuh"
#include "point_lists.cuh"
#include "scan.cuh"
#include "sort.cuh"
#include "steps.cuh"

namespace densefield::cuda {
namespace {

// The words of all corners' keys, word by word: [W, entries], entry = point * (d+1) + corner.
template <int W>
__global__ void corner_keys_kernel(const KeyField* field,  // [d]
                                   const int32_t* cell,    // [N, d+1]
                                   const uint8_t* rank,    // [N, d+1]
                                   int64_t num_entries, int dim,
                                   uint64_t* word) {  // [W, entries] out
  const int64_t e = item_of_thread();
  if (e >= num_entries) return;
  const int64_t first = e / (dim + 1) * (dim + 1);
  const Key<W> key =
      corner_key<W>(dim, static_cast<int>(e - first), field, cell + first, rank + first);
  for (int w = 0; w < W; ++w) word[w * num_entries + e] = key.word[w];
}

// What the next pass of the sort looks at: one word of the keys in the order so far.
__global__ void gather_word_kernel(const uint64_t* word,  // [entries]
                                   int64_t num_entries, bool is_first,
                                   int32_t* order,      // [entries] in; out if it is the first
                                   uint64_t* sorted) {  // [entries] out
  const int64_t i = item_of_thread();
  if (i >= num_entries) return;
  if (is_first) order[i] = static_cast<int32_t>(i);
  sorted[i] = word[order[i]];
}

// 1 where a key differs from the one before it: a new vertex.
__global__ void mark_heads_kernel(const uint64_t* word,  // [num_words, entries]
                                  const int32_t* order,  // [entries]
                                  int64_t num_entries, int num_words,
                                  uint32_t* head) {  // [entries + 1] out, the last one 0
  const int64_t i = item_of_thread();
  if (i > num_entries) return;
  bool is_head = i == 0;
  if (i > 0 && i < num_entries)
    for (int w = 0; w < num_words; ++w) {
      const uint64_t* plane = word + w * num_entries;
      is_head |= plane[order[i]] != plane[order[i - 1]];
    }
  head[i] = is_head ? 1 : 0;
}

__global__ void number_vertices_kernel(const uint64_t* word,   // [num_words, entries]
                                       const int32_t* order,   // [entries]
                                       const uint32_t* heads,  // [entries + 1] heads before each
                                       int64_t num_entries, int num_words, int64_t num_vertices,
                                       int32_t* corner,         // [entries] out, vertex
                                       uint32_t* begin,         // [M + 1] out, first entry
                                       uint64_t* vertex_key) {  // [num_words, M] out, sorted
  const int64_t i = item_of_thread();
  if (i > num_entries) return;
  if (i == num_entries) {
    begin[num_vertices] = static_cast<uint32_t>(num_entries);
    return;
  }
  const int64_t vertex = static_cast<int64_t>(heads[i + 1]) - 1;
  corner[order[i]] = static_cast<int32_t>(vertex);
  if (heads[i + 1] == heads[i]) return;
  begin[vertex] = static_cast<uint32_t>(i);
  for (int w = 0; w < num_words; ++w)
    vertex_key[w * num_vertices + vertex] = word[w * num_entries + order[i]];
}

// The number of a key among the sorted ones, or -1. The last word counts most.
template <int W>
__device__ int64_t find_key(const uint64_t* sorted,  // [W, M]
                            int64_t num_vertices, const Key<W>& key) {
  int64_t low = 0, high = num_vertices;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    bool is_below = false, is_equal = true;
    for (int w = W - 1; w >= 0; --w) {
      const uint64_t word = sorted[w * num_vertices + middle];
      is_below |= is_equal && word < key.word[w];
      is_equal &= word == key.word[w];
    }
    if (is_equal) return middle;
    if (is_below)
      low = middle + 1;
    else
      high = middle;
  }
  return -1;
}

// The vertex behind each one along every direction, and so the one before that.
template <int W>
__global__ void find_neighbours_kernel(const uint64_t* sorted,    // [W, M]
                                       const KeySteps<W>* steps,  // [1]
                                       int64_t num_vertices, int dim,
                                       int32_t* neighbour) {  // [d+1, 2, M] in: -1; out
  const int64_t v = item_of_thread();
  if (v >= num_vertices) return;
  const int j = static_cast<int>(blockIdx.y);
  Key<W> key;
  for (int w = 0; w < W; ++w) key.word[w] = sorted[w * num_vertices + v];
  const auto remainder = static_cast<int64_t>(key.word[0] & ((1u << kRemainderBits) - 1));
  const int64_t next = find_key(sorted, num_vertices, steps->neighbour(key, remainder, dim, j));
  if (next < 0) return;
  int32_t* before = neighbour + 2 * j * num_vertices;
  int32_t* behind = before + num_vertices;
  behind[v] = static_cast<int32_t>(next);
  before[next] = static_cast<int32_t>(v);
}

// The corners of all points in the order of their keys.
SortBuffers sort_corners(DeviceMemory& memory, const KeyLayout& keys, const Buffer<uint64_t>& words,
                         int64_t num_entries) {
  SortBuffers pairs(memory, num_entries);
  for (int w = 0; w < keys.num_words; ++w) {
    launch("gather_word_kernel", gather_word_kernel, one_each(num_entries), memory.stream(),
           words.data() + w * num_entries, num_entries, w == 0, pairs.value.data(),
           pairs.key.data());
    constexpr int kWordBits = 64;
    sort_pairs(memory, w + 1 == keys.num_words ? keys.num_bits : kWordBits, pairs);
  }
  return pairs;
}

template <typename T, int W>
void find_neighbours(DeviceMemory& memory, const KeyLayout& keys,
                     const Buffer<uint64_t>& vertex_keys, CudaLattice<T>& lattice) {
  const std::vector<KeySteps<W>> steps = {make_key_steps<W>(keys)};
  const Buffer<KeySteps<W>> device_steps = upload(memory, steps);
  const int64_t num_vertices = lattice.vertex_count;
  lattice.neighbour = Buffer<int32_t>(memory, 2 * lattice.corners * num_vertices);
  fill<int32_t>(memory, -1, lattice.neighbour.size(), lattice.neighbour.data());
  LaunchShape shape = one_each(num_vertices);
  shape.grid.y = static_cast<unsigned>(lattice.corners);
  launch("find_neighbours_kernel", find_neighbours_kernel<W>, shape, memory.stream(),
         vertex_keys.data(), device_steps.data(), num_vertices, lattice.dimension,
         lattice.neighbour.data());
}

// Vertices, point lists and neighbours from the cells and ranks of all points.
template <typename T, int W>
void connect_points(DeviceMemory& memory, const KeyLayout& keys, const Buffer<int32_t>& cell,
                    CudaLattice<T>& lattice) {
  const int64_t num_entries = lattice.num_points() * lattice.corners;
  Buffer<uint64_t> words(memory, W * num_entries);
  {
    const Buffer<KeyField> field = upload(memory, keys.field);
    launch("corner_keys_kernel", corner_keys_kernel<W>, one_each(num_entries), memory.stream(),
           field.data(), cell.data(), lattice.rank.data(), num_entries, keys.dim, words.data());
  }
  const SortBuffers sorted = sort_corners(memory, keys, words, num_entries);
  const int32_t* order = sorted.value.data();
  Buffer<uint32_t> heads(memory, num_entries + 1);
  launch("mark_heads_kernel", mark_heads_kernel, one_each(num_entries + 1), memory.stream(),
         words.data(), order, num_entries, keys.num_words, heads.data());
  exclusive_scan(memory, num_entries + 1, heads.data());
  uint32_t num_vertices = 0;
  download(memory, heads.data() + num_entries, 1, &num_vertices);
  lattice.vertex_count = num_vertices;

  Buffer<uint32_t> begin(memory, lattice.vertex_count + 1);
  Buffer<uint64_t> vertex_keys(memory, W * lattice.vertex_count);
  launch("number_vertices_kernel", number_vertices_kernel, one_each(num_entries + 1),
         memory.stream(), words.data(), order, heads.data(), num_entries, W, lattice.vertex_count,
         lattice.corner.data(), begin.data(), vertex_keys.data());
  list_points(memory, order, begin.data(), lattice);
  find_neighbours<T, W>(memory, keys, vertex_keys, lattice);
}

template <typename T>
void connect(DeviceMemory& memory, const KeyLayout& keys, const Buffer<int32_t>& cell,
             CudaLattice<T>& lattice) {
  // One word serves nearly every image; the widths double so that few variants are compiled.
  if (keys.num_words <= 1) return connect_points<T, 1>(memory, keys, cell, lattice);
  if (keys.num_words <= 2) return connect_points<T, 2>(memory, keys, cell, lattice);
  if (keys.num_words <= 4) return connect_points<T, 4>(memory, keys, cell, lattice);
  connect_points<T, kMostKeyWords>(memory, keys, cell, lattice);
}

}  // namespace

template <typename T>
std::shared_ptr<const CudaLattice<T>> build_lattice(DeviceMemory& memory,
                                                    std::shared_ptr<const CudaLayout> layout,
                                                    const Features<T>& given) {
  check_dim(given);
  // The copy is checked and embedded: an array that somebody changes meanwhile does no harm.
  const DeviceView<T> values = bring_to_device(memory, given.values);
  const Features<T> features{given.sigma_position, values.view, given.sigma_value};
  const KeyLayout keys = make_key_layout(memory, *layout, features);
  check_corner_count(layout->num_nodes(), keys.dim + 1);

  auto lattice = std::make_shared<CudaLattice<T>>();
  lattice->dimension = keys.dim;
  lattice->corners = keys.dim + 1;
  lattice->layout = std::move(layout);
  const int64_t num_entries = lattice->num_points() * lattice->corners;
  lattice->weight = Buffer<T>(memory, num_entries);
  lattice->corner = Buffer<int32_t>(memory, num_entries);
  lattice->rank = Buffer<uint8_t>(memory, num_entries);
  Buffer<int32_t> cell(memory, num_entries);
  const auto embed = sizeof(T) == sizeof(double) || keys.needs_double ? embed_points<T, double>
                                                                      : embed_points<T, T>;
  embed(memory, *lattice->layout, features, lattice->weight.data(), cell.data(),
        lattice->rank.data());
  connect(memory, keys, cell, *lattice);
  return lattice;
}

#define DF_INSTANTIATE(T)                                       \
  template std::shared_ptr<const CudaLattice<T>> build_lattice( \
      DeviceMemory&, std::shared_ptr<const CudaLayout>, const Features<T>&);
DF_INSTANTIATE(float)
DF_INSTANTIATE(double)

}  // namespace densefield::cuda
