// The window kernel's functions for the level that dispatch.cpp has chosen.
#include <string_view>

#include "kernels.h"
#include "window_kernels.h"

namespace densefield::simd {
namespace {

template <typename T>
struct LevelTable {
  WindowKernels<T> base;
#ifdef DF_X86_64
  WindowKernels<T> avx2;
  WindowKernels<T> avx512;
#endif

  const WindowKernels<T>& in_use() const {
#ifdef DF_X86_64
    const std::string_view name = level_name();
    if (name == "avx2") return avx2;
    if (name == "avx512") return avx512;
#endif
    return base;
  }
};

}  // namespace

#ifdef DF_X86_64
#define DF_LEVELS(type) {window_##type##_base(), window_##type##_avx2(), window_##type##_avx512()}
#else
#define DF_LEVELS(type) {window_##type##_base()}
#endif

template <>
const WindowKernels<float>& window_kernels<float>() {
  static const LevelTable<float> table = DF_LEVELS(float);
  return table.in_use();
}
template <>
const WindowKernels<double>& window_kernels<double>() {
  static const LevelTable<double> table = DF_LEVELS(double);
  return table.in_use();
}

#undef DF_LEVELS

}  // namespace densefield::simd
