// In which order the emulator runs the threads of a block, and on how many threads of the host.
#pragma once

#include <cstddef>
#include <cstdint>

namespace densefield::emulation {

// From the environment when first asked for; tests may change them between two kernels.
struct Settings {
  int num_workers;   // DENSEFIELD_EMULATION_THREADS: host threads that blocks are spread over
  bool is_reversed;  // DENSEFIELD_EMULATION_ORDER=reversed: the last thread runs first
  uint64_t seed;     // DENSEFIELD_EMULATION_ORDER=<number>: random order; 0: in turn
  std::size_t device_bytes;  // DENSEFIELD_EMULATION_MEMORY: of each device; by default the host's
  int num_devices;           // DENSEFIELD_EMULATION_DEVICES
  int switch_per_million;    // DENSEFIELD_EMULATION_SWITCHES: atomics that let others run first
};
Settings& settings();

// Stack of one emulated thread that waits; a guard page ends it.
constexpr std::size_t kStackBytes = std::size_t{128} << 10;

}  // namespace densefield::emulation
