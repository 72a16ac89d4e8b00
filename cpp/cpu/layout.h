// The order of nodes on the CPU: small tiles, so that neighbours share lattice vertices.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "densefield/lattice.h"

namespace densefield::cpu {

// Nodes that lie next to each other on the grid and in the layout.
struct Run {
  int64_t node;  // first node, in grid order
  int64_t length;
};

// What one task works on: rows [begin, end) and the runs that make them up. A block numbers
// its lattice vertices for itself with 16 bits, and its vertex rows stay in the cache.
struct Block {
  int64_t begin;
  int64_t end;
  int64_t run_begin;
  int64_t run_end;
};

class CpuLayout final : public NodeLayout {
 public:
  // The partition depends on the grid and max_dim only, never on the number of threads:
  // sums are taken block by block in a fixed order.
  CpuLayout(const Grid& grid, int max_dim);

  int64_t num_nodes() const override { return num_nodes_; }
  const Grid& grid() const { return grid_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t most_points() const { return most_points_; }  // of a block
  // Extent of a whole block: the blocks cut every axis into intervals of this length.
  const std::vector<int64_t>& block_extent() const { return block_extent_; }
  const Run& run(int64_t index) const { return runs_[static_cast<size_t>(index)]; }
  int64_t num_runs() const { return static_cast<int64_t>(runs_.size()); }

 private:
  void add_block(const std::vector<int64_t>& low, const std::vector<int64_t>& high);

  Grid grid_;
  int64_t num_nodes_, most_points_ = 0;
  std::vector<int64_t> block_extent_;
  std::vector<Block> blocks_;
  std::vector<Run> runs_;
};

inline const CpuLayout& as_cpu(const NodeLayout& layout) {
  return static_cast<const CpuLayout&>(layout);
}

}  // namespace densefield::cpu
