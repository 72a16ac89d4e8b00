// Chooses the instruction set once, when the first kernel is asked for.
#include <atomic>
#include <cstdlib>
#include <string>
#include <vector>

#include "densefield/error.h"
#include "levels.h"
#include "reverse_kernels.h"
#include "window_kernels.h"

namespace densefield::simd {
namespace {

struct LevelEntry {
  const char* name;
  Kernels<float> for_float;
  Kernels<double> for_double;
  WindowKernels<float> window_for_float;
  WindowKernels<double> window_for_double;
  ReverseKernels<float> reverse_for_float;
  ReverseKernels<double> reverse_for_double;
};

// Even the functions that return the tables are compiled with the level's instructions: they
// are called only where the processor has them.
#define DF_LEVEL(level)                                                                      \
  LevelEntry {                                                                               \
    #level, kernels_##level(embed_float_##level()), kernels_##level(embed_double_##level()), \
        window_float_##level(), window_double_##level(), reverse_float_##level(),            \
        reverse_double_##level()                                                             \
  }

// Those that this processor can run, weakest first. Never destroyed: a thread may be inside a
// kernel while the process ends.
const std::vector<LevelEntry>& levels() {
  static const auto& entries = *[] {
    auto* list = new std::vector<LevelEntry>;
    list->push_back(DF_LEVEL(base));
#ifdef DF_X86_64
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_avx2) list->push_back(DF_LEVEL(avx2));
    if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
      list->push_back(DF_LEVEL(avx512));
#endif
    return list;
  }();
  return entries;
}

#undef DF_LEVEL

const LevelEntry* find_available(const std::string& name) {
  for (const LevelEntry& entry : levels())
    if (name == entry.name) return &entry;
  return nullptr;
}

// An unknown or unavailable DENSEFIELD_ISA falls back to the best level: a variable in
// somebody's shell must not make the import fail. system_info() shows what is in use.
const LevelEntry* initial_level() {
  if (const char* forced = std::getenv("DENSEFIELD_ISA"))
    if (const LevelEntry* entry = find_available(forced)) return entry;
  return &levels().back();
}

std::atomic<const LevelEntry*>& current() {
  static std::atomic<const LevelEntry*> level{initial_level()};
  return level;
}

}  // namespace

template <>
const Kernels<float>& kernels<float>() {
  return current().load(std::memory_order_relaxed)->for_float;
}
template <>
const Kernels<double>& kernels<double>() {
  return current().load(std::memory_order_relaxed)->for_double;
}

template <>
const WindowKernels<float>& window_kernels<float>() {
  return current().load(std::memory_order_relaxed)->window_for_float;
}
template <>
const WindowKernels<double>& window_kernels<double>() {
  return current().load(std::memory_order_relaxed)->window_for_double;
}

template <>
const ReverseKernels<float>& reverse_kernels<float>() {
  return current().load(std::memory_order_relaxed)->reverse_for_float;
}
template <>
const ReverseKernels<double>& reverse_kernels<double>() {
  return current().load(std::memory_order_relaxed)->reverse_for_double;
}

const char* level_name() { return current().load(std::memory_order_relaxed)->name; }

const char* available_levels() {
  static const std::string& names = *[] {
    auto* list = new std::string;
    for (const LevelEntry& entry : levels()) {
      if (!list->empty()) *list += ',';
      *list += entry.name;
    }
    return list;
  }();
  return names.c_str();
}

void set_level(const char* name) {
  const LevelEntry* entry = find_available(name);
  if (entry == nullptr)
    fail_value("SIMD level must be one of " + std::string(available_levels()) + ", got '" + name +
               "'");
  current().store(entry);
}

}  // namespace densefield::simd
