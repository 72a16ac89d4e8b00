#include "layout.h"

#include <algorithm>
#include <limits>

#include "densefield/buffer.h"

namespace densefield::cpu {
namespace {

// Points of a block at most; fewer where (d+1) corners each could exceed 16-bit numbers.
// 9216 points at 80/13 touch about 2000 vertices: 200 KB of rows for 21 labels, which a
// second-level cache holds (measured best of 2304 .. 36864).
constexpr int64_t kBlockPoints = 9216;
constexpr int64_t kMaxCorners = 65535;

// Inside a block, tiles of this width keep a row of nodes and the next one close together.
constexpr int64_t kTileWidth = 32;
constexpr int64_t kTileHeight = 32;

// Extents of a block: the whole axis if short, near-cubic otherwise.
std::vector<int64_t> find_block_extent(const Grid& grid, int64_t max_points) {
  const size_t axes = grid.extent.size();
  std::vector<int64_t> extent(axes, 1);
  for (bool grew = true; grew;) {
    grew = false;
    size_t shortest = axes;
    int64_t points = 1;
    for (size_t a = 0; a < axes; ++a) points *= extent[a];
    for (size_t a = axes; a-- > 0;)
      if (extent[a] < grid.extent[a] && (shortest == axes || extent[a] < extent[shortest]))
        shortest = a;
    if (shortest < axes && points * 2 <= max_points) {
      extent[shortest] *= 2;
      grew = true;
    }
  }
  return extent;
}

// Steps a box's corner `low` through [first, last) with the given step; false at the end.
bool next_box(std::vector<int64_t>& low, const std::vector<int64_t>& first,
              const std::vector<int64_t>& last, const std::vector<int64_t>& step) {
  for (size_t a = low.size(); a-- > 0;) {
    low[a] += step[a];
    if (low[a] < last[a]) return true;
    low[a] = first[a];
  }
  return false;
}

std::vector<int64_t> box_end(const std::vector<int64_t>& low, const std::vector<int64_t>& step,
                             const std::vector<int64_t>& last) {
  std::vector<int64_t> high(low.size());
  for (size_t a = 0; a < low.size(); ++a) high[a] = std::min(low[a] + step[a], last[a]);
  return high;
}

// Throws the memory's error where not even the tables of a lattice of the largest dimension
// would fit, before blocks are listed one by one. Host memory is reserved, not touched.
void refuse_beyond_memory(int64_t num_nodes, int max_dim) {
  const std::size_t entry = sizeof(float) + sizeof(uint16_t) + sizeof(uint8_t);
  const std::size_t per_node = entry * static_cast<std::size_t>(max_dim + 1);
  const std::size_t most = std::numeric_limits<std::size_t>::max() / 2 / per_node;
  const std::size_t nodes = std::min(static_cast<std::size_t>(num_nodes), most);
  host_memory().release(host_memory().allocate(nodes * per_node));
}

}  // namespace

CpuLayout::CpuLayout(const Grid& grid, int max_dim) : grid_(grid), num_nodes_(grid.num_nodes()) {
  if (num_nodes_ == 0) return;
  const int64_t max_points = std::min(kBlockPoints, kMaxCorners / (max_dim + 1));
  refuse_beyond_memory(num_nodes_, max_dim);
  block_extent_ = find_block_extent(grid, max_points);
  const std::vector<int64_t> origin(grid.extent.size(), 0);
  std::vector<int64_t> low = origin;
  do {
    add_block(low, box_end(low, block_extent_, grid.extent));
  } while (next_box(low, origin, grid.extent, block_extent_));
}

void CpuLayout::add_block(const std::vector<int64_t>& low, const std::vector<int64_t>& high) {
  const size_t axes = low.size();
  std::vector<int64_t> tile(axes, 1);
  tile[axes - 1] = axes == 1 ? high[0] - low[0] : kTileWidth;
  if (axes > 1) tile[axes - 2] = kTileHeight;

  Block block;
  block.begin = blocks_.empty() ? 0 : blocks_.back().end;
  block.end = block.begin;
  block.run_begin = static_cast<int64_t>(runs_.size());
  std::vector<int64_t> corner = low;
  do {
    const std::vector<int64_t> end = box_end(corner, tile, high);
    // Every row of the tile along the last axis is a run.
    std::vector<int64_t> row_step(axes, 1);
    row_step[axes - 1] = tile[axes - 1];
    std::vector<int64_t> row = corner;
    do {
      int64_t node = 0;
      for (size_t a = 0; a < axes; ++a) node = node * grid_.extent[a] + row[a];
      runs_.push_back({node, end[axes - 1] - corner[axes - 1]});
      block.end += runs_.back().length;
    } while (next_box(row, corner, end, row_step));
  } while (next_box(corner, low, high, tile));
  block.run_end = static_cast<int64_t>(runs_.size());
  blocks_.push_back(block);
  most_points_ = std::max(most_points_, block.end - block.begin);
}

}  // namespace densefield::cpu
