// Chooses the instruction set once, when the first kernel is asked for.
#include <atomic>
#include <cstdlib>
#include <string>
#include <vector>

#include "densefield/error.h"
#include "levels.h"

namespace densefield::simd {
namespace {

struct LevelEntry {
  const char* name;
  bool available;
  Kernels<float> for_float;
  Kernels<double> for_double;
};

// Weakest first.
const std::vector<LevelEntry>& levels() {
  static const std::vector<LevelEntry> entries = [] {
    std::vector<LevelEntry> list;
    list.push_back(
        {"base", true, kernels_base(embed_float_base()), kernels_base(embed_double_base())});
#ifdef DF_X86_64
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    list.push_back(
        {"avx2", avx2, kernels_avx2(embed_float_avx2()), kernels_avx2(embed_double_avx2())});
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512bw");
    list.push_back({"avx512", avx512, kernels_avx512(embed_float_avx512()),
                    kernels_avx512(embed_double_avx512())});
#endif
    return list;
  }();
  return entries;
}

const LevelEntry* find_available(const std::string& name) {
  for (const LevelEntry& entry : levels())
    if (entry.available && name == entry.name) return &entry;
  return nullptr;
}

// An unknown or unavailable DENSEFIELD_ISA falls back to the best level: a variable in
// somebody's shell must not make the import fail. system_info() shows what is in use.
const LevelEntry* initial_level() {
  if (const char* forced = std::getenv("DENSEFIELD_ISA"))
    if (const LevelEntry* entry = find_available(forced)) return entry;
  const LevelEntry* best = nullptr;
  for (const LevelEntry& entry : levels())
    if (entry.available) best = &entry;
  return best;
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

const char* level_name() { return current().load(std::memory_order_relaxed)->name; }

const char* available_levels() {
  static const std::string names = [] {
    std::string list;
    for (const LevelEntry& entry : levels()) {
      if (!entry.available) continue;
      if (!list.empty()) list += ',';
      list += entry.name;
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
