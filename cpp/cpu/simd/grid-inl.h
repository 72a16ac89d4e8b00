// Splat and slice of a spatial kernel, core/grid_kernel.h: separably, first along a run of
// neighbours and then across the lines of nodes beside it, so that no point has a list of
// corners and most sums stay in registers.
#pragma once

namespace densefield::simd {
namespace {

// Where a walk through the points of a block has got to.
struct RunCursor {
  int64_t run = 0;
  int64_t skip = 0;  // points of that run that are behind
};

template <typename T>
DF_HD RunCursor behind(const GridBlock<T>& grid, RunCursor cursor, int64_t count) {
  cursor.skip += count;
  while (cursor.run < grid.num_runs && cursor.skip >= grid.runs[cursor.run].length) {
    cursor.skip -= grid.runs[cursor.run].length;
    ++cursor.run;
  }
  return cursor;
}

// Calls body(run, skip, first, count) for the pieces of runs that make up the next `count`
// points; `first` counts them.
template <typename T, typename Body>
DF_HD void for_run_pieces(const GridBlock<T>& grid, RunCursor cursor, int64_t count, Body body) {
  for (int64_t first = 0; first < count;) {
    const GridRun<T>& run = grid.runs[cursor.run];
    const int64_t rest = run.length - cursor.skip;
    const int64_t piece = rest < count - first ? rest : count - first;
    body(run, cursor.skip, first, piece);
    first += piece;
    cursor = behind(grid, cursor, piece);
  }
}

// The same for all points of a block, none of the pieces longer than a chunk.
template <typename T, typename Body>
DF_HD void for_block_pieces(const GridBlock<T>& grid, Body body) {
  RunCursor cursor;
  for (int64_t begin = 0; begin < grid.count; begin += kPassChunk) {
    const int64_t rest = grid.count - begin, count = rest < kPassChunk ? rest : kPassChunk;
    for_run_pieces(grid, cursor, count,
                   [&](const GridRun<T>& run, int64_t skip, int64_t first, int64_t piece) {
                     body(run, skip, begin + first, piece);
                   });
    cursor = behind(grid, cursor, count);
  }
}

// Calls body(first, count, cursor) for the chunks of a pass's block. All of its spatial kernels
// walk through the same runs: cursor is where they are at the chunk's first point.
template <typename Block, typename Body>
DF_HD void for_chunks(const Block& block, Body body) {
  decltype(block.kernels->grid) grid = nullptr;
  for (int m = 0; m < block.num_kernels; ++m)
    if (block.kernels[m].grid != nullptr) grid = block.kernels[m].grid;
  RunCursor cursor;
  for (int64_t first = 0; first < block.count; first += kPassChunk) {
    const int64_t rest = block.count - first, count = rest < kPassChunk ? rest : kPassChunk;
    body(first, count, cursor);
    if (grid != nullptr) cursor = behind(*grid, cursor, count);
  }
}

// What a chunk adds to the sums of every kernel that is given some.
template <typename T, typename Chunk, typename Block>
DF_HD void splat_chunk(const Chunk& chunk, const Block& block, RunCursor cursor) {
  for (int m = 0; m < block.num_kernels; ++m) {
    const auto kernel = block.kernels[m];
    if (kernel.sums == nullptr) continue;
    if (kernel.grid != nullptr)
      chunk.splat_grid(kernel, cursor);
    else
      with_corners<T>(kernel.corners.num_corners, [&](auto k) { chunk.template splat<k>(kernel); });
  }
}

// Asks for what every kernel keeps for `count` points of a block.
template <typename Block>
DF_HD void prefetch_kernels(const Block& block, int64_t first, int64_t count) {
  for (int m = 0; m < block.num_kernels; ++m) {
    const auto& kernel = block.kernels[m];
    prefetch(kernel.pre + first, count);
    prefetch(kernel.post + first, count);
    if (kernel.grid != nullptr) continue;
    const int64_t corners = kernel.corners.num_corners;
    prefetch(kernel.corners.weight + first * corners, count * corners);
    prefetch(kernel.corners.corner + first * corners, count * corners);
  }
}

// Where the points of a piece lie along the last axis.
struct LinePiece {
  int64_t phase;   // of the first, grid steps behind the node before it
  int64_t column;  // that node, counted from the run's first
  int64_t length;  // nodes that the points lie between
};

template <typename T>
DF_HD LinePiece line_piece(const GridBlock<T>& grid, const GridRun<T>& run, int64_t skip,
                           int64_t count) {
  const int64_t position = run.position + skip, phase = position % grid.step;
  return {phase, position / grid.step - run.position / grid.step,
          (phase + count - 1) / grid.step + grid.num_corners};
}

// Calls body(p, corner_weight) for the points of a piece, node interval by node interval:
// begin(c) before the points between nodes c and c+1 of the line, end(c) behind them.
template <typename T, typename Begin, typename Body, typename End>
DF_HD void for_intervals(const GridBlock<T>& grid, int64_t phase, int64_t count, Begin begin,
                         Body body, End end) {
  for (int64_t p = 0, c = 0; p < count; ++c, phase = 0) {
    begin(c);
    for (; phase < grid.step && p < count; ++phase, ++p) body(p, grid.corner_weight + 2 * phase);
    end(c);
  }
}

// receive(p, message) for every point of a piece. line: scratch, [kLineRows, stride].
template <typename R, typename T, typename Receive>
DF_HD void slice_piece(const GridBlock<T>& grid, const GridRun<T>& run, int64_t skip, int64_t count,
                       const T* nodes, int64_t stride, int64_t size, T* line, Receive receive) {
  const auto [phase, column, length] = line_piece(grid, run, skip, count);
  const T* from = nodes + (run.node + column) * stride;
  const T* across = from;
  if (grid.num_lines > 1) {
    for (int64_t c = 0; c < length; ++c) {
      R sum(line + c * stride, size);
      fill(sum, [&](int v) { return run.line_weight[0] * R::load(from + c * stride, v); });
      for (int o = 1; o < grid.num_lines; ++o) {
        const T* node = from + (grid.line_node[o] + c) * stride;
        fill(sum, [&](int v) { return sum.get(v) + run.line_weight[o] * R::load(node, v); });
      }
      sum.save(line + c * stride);
    }
    across = line;
  }
  if (grid.num_corners == 1) {
    for (int64_t p = 0; p < count; ++p)
      receive(p, [&](int v) { return R::load(across + p * stride, v); });
    return;
  }
  // A row in memory is only read here.
  R left(const_cast<T*>(across), size);
  left.restore(across);
  R right = left;
  for_intervals(
      grid, phase, count,
      [&](int64_t c) {
        right = R(const_cast<T*>(across + (c + 1) * stride), size);
        right.restore(across + (c + 1) * stride);
      },
      [&](int64_t p, const T* weight) {
        receive(p, [&](int v) { return weight[0] * left.get(v) + weight[1] * right.get(v); });
      },
      [&](int64_t) { left = right; });
}

// box += the points of a piece, value(p, v) being vector v of point p.
template <typename R, typename T, typename Value>
DF_HD void splat_piece(const GridBlock<T>& grid, const GridRun<T>& run, int64_t skip, int64_t count,
                       T* box, int64_t stride, int64_t size, T* line, Value value) {
  const auto [phase, column, length] = line_piece(grid, run, skip, count);
  if (grid.num_corners == 1) {
    for (int64_t p = 0; p < count; ++p) {
      R row(line + p * stride, size);
      fill(row, [&](int v) { return value(p, v); });
      row.save(line + p * stride);
    }
  } else {
    R left(line, size), right(line, size);
    fill(left, [](int) { return R::broadcast(T(0)); });
    for_intervals(
        grid, phase, count,
        [&](int64_t c) {
          right = R(line + (c + 1) * stride, size);
          fill(right, [](int) { return R::broadcast(T(0)); });
        },
        [&](int64_t p, const T* weight) {
          for (int v = 0; v < left.size(); ++v) {
            const auto x = value(p, v);
            left.set(v, left.get(v) + weight[0] * x);
            right.set(v, right.get(v) + weight[1] * x);
          }
        },
        [&](int64_t c) {
          left.save(line + c * stride);
          left = right;
        });
    left.save(line + (length - 1) * stride);
  }
  for (int o = 0; o < grid.num_lines; ++o) {
    T* to = box + (run.slot + grid.line_slot[o] + column) * stride;
    const auto weight = R::broadcast(run.line_weight[o]);
    for (int64_t c = 0; c < length; ++c) {
      R sum(to + c * stride, size);
      sum.restore(to + c * stride);
      fill(sum, [&](int v) { return sum.get(v) + weight * R::load(line + c * stride, v); });
      sum.save(to + c * stride);
    }
  }
}

// One channel: what is done at the nodes runs along their line in vectors, and points are taken
// phase by phase, so that none waits for the one before.

// to[i] = factor * from[i]
template <typename T>
DF_HD void scale_line(T factor, const T* from, int64_t count, T* to) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>)
    store_unaligned(to + i, factor * load_unaligned(from + i));
  for (; i < count; ++i) to[i] = factor * from[i];
}

// to[i] += factor * from[i]
template <typename T>
DF_HD void add_line(T factor, const T* from, int64_t count, T* to) {
  int64_t i = 0;
  for (; i + kLanes<T> <= count; i += kLanes<T>)
    store_unaligned(to + i, load_unaligned(to + i) + factor * load_unaligned(from + i));
  for (; i < count; ++i) to[i] += factor * from[i];
}

// messages [count] of the points of a piece.
template <typename T>
DF_HD void slice_single(const GridBlock<T>& grid, const GridRun<T>& run, int64_t skip,
                        int64_t count, const T* nodes, T* line, T* messages) {
  const auto [first, column, length] = line_piece(grid, run, skip, count);
  const T* across = nodes + run.node + column;
  if (grid.num_lines > 1) {
    scale_line(run.line_weight[0], across, length, line);
    for (int o = 1; o < grid.num_lines; ++o)
      add_line(run.line_weight[o], across + grid.line_node[o], length, line);
    across = line;
  }
  if (grid.num_corners == 1) {
    for (int64_t p = 0; p < count; ++p) messages[p] = across[p];
    return;
  }
  for (int64_t phase = 0; phase < grid.step; ++phase) {
    const T* weight = grid.corner_weight + 2 * phase;
    int64_t c = phase < first ? 1 : 0;
    for (int64_t p = c * grid.step + phase - first; p < count; p += grid.step, ++c)
      messages[p] = weight[0] * across[c] + weight[1] * across[c + 1];
  }
}

// box += the points of a piece, values [count].
template <typename T>
DF_HD void splat_single(const GridBlock<T>& grid, const GridRun<T>& run, int64_t skip,
                        int64_t count, const T* values, T* line, T* box) {
  const auto [first, column, length] = line_piece(grid, run, skip, count);
  if (grid.num_corners == 1) {
    line = const_cast<T*>(values);  // only read from here on
  } else {
    for (int64_t c = 0; c < length; ++c) line[c] = T(0);
    for (int64_t phase = 0; phase < grid.step; ++phase) {
      const T* weight = grid.corner_weight + 2 * phase;
      int64_t c = phase < first ? 1 : 0;
      T before = 0;
      for (int64_t p = c * grid.step + phase - first; p < count; p += grid.step, ++c) {
        line[c] += weight[0] * values[p] + weight[1] * before;
        before = values[p];
      }
      line[c] += weight[1] * before;
    }
  }
  for (int o = 0; o < grid.num_lines; ++o)
    add_line(run.line_weight[o], line, length, box + run.slot + grid.line_slot[o] + column);
}

template <typename T>
void grid_splat_single(const GridBlock<T>& grid, const T* rows, const T* pre, T* box, T* line) {
  T values[kPassChunk];
  for_block_pieces(grid, [&](const GridRun<T>& run, int64_t skip, int64_t i, int64_t count) {
    for (int64_t p = 0; p < count; ++p)
      values[p] = (pre != nullptr ? pre[i + p] : T(1)) * rows[i + p];
    splat_single(grid, run, skip, count, values, line, box);
  });
}

template <typename T>
void grid_slice_single(const GridBlock<T>& grid, const T* nodes, const T* post, T scale, T* rows,
                       T* line) {
  T messages[kPassChunk];
  for_block_pieces(grid, [&](const GridRun<T>& run, int64_t skip, int64_t i, int64_t count) {
    slice_single(grid, run, skip, count, nodes, line, messages);
    for (int64_t p = 0; p < count; ++p)
      rows[i + p] = (post != nullptr ? scale * post[i + p] : scale) * messages[p];
  });
}

template <typename T>
void grid_splat(const GridBlock<T>& grid, const T* rows, const T* pre, T* box, int64_t stride,
                T* line) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    if constexpr (nv == kSingle) {
      grid_splat_single(grid, rows, pre, box, line);
    } else {
      using R = Row<T, nv>;
      for_block_pieces(grid, [&](const GridRun<T>& run, int64_t skip, int64_t i, int64_t count) {
        splat_piece<R>(grid, run, skip, count, box + offset, stride, nv, line,
                       [&](int64_t p, int v) {
                         const T factor = pre != nullptr ? pre[i + p] : T(1);
                         return factor * R::load(rows + (i + p) * stride + offset, v);
                       });
      });
    }
  });
}

template <typename T>
void grid_slice(const GridBlock<T>& grid, const T* nodes, const T* post, T scale, T* rows,
                int64_t stride, T* line) {
  for_pieces<T>(stride, [&](auto nv, int64_t offset) {
    if constexpr (nv == kSingle) {
      grid_slice_single(grid, nodes, post, scale, rows, line);
    } else {
      using R = Row<T, nv>;
      for_block_pieces(grid, [&](const GridRun<T>& run, int64_t skip, int64_t i, int64_t count) {
        slice_piece<R>(grid, run, skip, count, nodes + offset, stride, nv, line,
                       [&](int64_t p, auto message) {
                         const T factor = post != nullptr ? scale * post[i + p] : scale;
                         T* to = rows + (i + p) * stride + offset;
                         R row(to, nv);
                         fill(row, [&](int v) { return factor * message(v); });
                         row.save(to);
                       });
      });
    }
  });
}

// to += from, anywhere in memory.
template <typename T>
void add_rows(const T* from, int64_t count, T* to) {
  const int64_t whole = count / kLanes<T> * kLanes<T>;
  for (int64_t i = 0; i < whole; i += kLanes<T>)
    store_unaligned(to + i, load_unaligned(to + i) + load_unaligned(from + i));
  for (int64_t i = whole; i < count; ++i) to[i] += from[i];
}

// to[i] = the symmetric filter of line[0] .. line[2 reach] at i; line[reach] is the centre.
template <typename T>
void filter_line(const T* const* line, const T* tap, int64_t reach, int64_t count, T* to) {
  constexpr int64_t kStep = 4 * kLanes<T>;  // four sums at once hide the adder's latency
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    Vec<T> sum[4];
    for (int v = 0; v < 4; ++v) sum[v] = tap[0] * load_unaligned(line[reach] + i + v * kLanes<T>);
    for (int64_t r = 1; r <= reach; ++r) {
      const T* before = line[reach - r] + i;
      const T* behind = line[reach + r] + i;
      for (int v = 0; v < 4; ++v)
        sum[v] += tap[r] *
                  (load_unaligned(before + v * kLanes<T>) + load_unaligned(behind + v * kLanes<T>));
    }
    for (int v = 0; v < 4; ++v) store_unaligned(to + i + v * kLanes<T>, sum[v]);
  }
  for (; i < count; ++i) {
    T sum = tap[0] * line[reach][i];
    for (int64_t r = 1; r <= reach; ++r) sum += tap[r] * (line[reach - r][i] + line[reach + r][i]);
    to[i] = sum;
  }
}

}  // namespace
}  // namespace densefield::simd
