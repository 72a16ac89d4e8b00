// Runs kernels on the host: what kernel_language.h calls. The engine is compiled without
// -fsanitize=thread, whatever the kernels are compiled with.
#pragma once

#include <cstddef>
#include <cstdint>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
};
struct uint3 {
  unsigned x, y, z;
};

namespace densefield::emulation {

constexpr unsigned kMaxBlockThreads = 1024;
constexpr unsigned kWarp = 32;
constexpr std::size_t kMaxSharedBytes = 48 << 10;  // what every device gives without asking

// What a kernel reads of its own thread and of its grid.
struct ThreadIds {
  uint3 thread;
  uint3 block;
  unsigned rank;  // in the block
};
struct GridShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;  // of dynamic shared memory
  void* shared;
};

#define DF_EMULATION_TLS __attribute__((tls_model("initial-exec")))
extern thread_local ThreadIds* current_ids DF_EMULATION_TLS;
extern thread_local GridShape* current_shape DF_EMULATION_TLS;
extern thread_local int switch_chance DF_EMULATION_TLS;
#ifdef DF_EMULATION_TSAN
// Out of line: TSan takes a fibre that reads its host thread's variables for a race.
ThreadIds* this_thread();
GridShape* this_grid();
#else
inline ThreadIds* this_thread() { return current_ids; }
inline GridShape* this_grid() { return current_shape; }
#endif

enum class Collective : uint8_t { none, sync, shuffle, ballot };

// Runs body(arguments) once for every thread of the grid. Throws Error (runtime), with the
// kernel's name, for launch limits and for all that a kernel did wrong and the engine saw.
void run_grid(const char* name, const GridShape& shape, void (*body)(void*), void* arguments);

void sync_block(const char* file, int line);
uint64_t warp_collective(uint32_t mask, Collective kind, uint64_t value, int source_lane);
// The memory of one __shared__ declaration in the running block, exactly as large as it.
void* shared_array(int declaration, std::size_t num_bytes);
int new_shared_declaration();
void fence();
// Ends the kernel with an error.
[[noreturn]] void fail(const char* what);

// Sometimes lets other threads of the block run first: see Settings::switch_per_million.
void maybe_switch_slow();
inline void maybe_switch() {
#ifdef DF_EMULATION_TSAN
  maybe_switch_slow();
#else
  if (__builtin_expect(switch_chance != 0, 0)) maybe_switch_slow();
#endif
}

}  // namespace densefield::emulation
