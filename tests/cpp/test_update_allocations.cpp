// Updates take no memory: a field has what they need before the first one.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "checks.h"
#include "densefield/crf.h"
#include "densefield/threads.h"

namespace {

std::atomic<int64_t> num_allocations{0};

void* counted(std::size_t num_bytes) {
  ++num_allocations;
  void* ptr = std::malloc(num_bytes);
  if (ptr == nullptr) throw std::bad_alloc();
  return ptr;
}

}  // namespace

// The containers' memory, and that of buffers, which comes from aligned_alloc.
void* operator new(std::size_t num_bytes) { return counted(num_bytes); }
void operator delete(void* ptr) noexcept { std::free(ptr); }
void operator delete(void* ptr, std::size_t) noexcept { std::free(ptr); }
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t num_bytes) noexcept {
  ++num_allocations;
  void* ptr = nullptr;
  return posix_memalign(&ptr, alignment, num_bytes) == 0 ? ptr : nullptr;
}

namespace {

using namespace densefield;

// Small enough for buffers that the library's own store of memory does not keep.
constexpr int64_t kHeight = 20, kWidth = 30, kNodes = kHeight * kWidth;

// A kernel on a lattice, of position and one value, and one on the grid.
template <typename T>
std::shared_ptr<const CrfModel<T>> make_model(std::vector<T>& value) {
  for (int64_t node = 0; node < kNodes; ++node) value.push_back(static_cast<T>(node * 37 % 101));
  KernelSpec<T> alike{}, near{};
  alike.features.sigma_position = {T(8), T(8)};
  alike.features.sigma_value = {T(20)};
  alike.features.values = {value.data(), kNodes, 1, 1, kNodes};
  near.grid_sigma = {T(3), T(3)};
  return std::make_shared<const CrfModel<T>>(cpu_backend<T>(), Grid{{kHeight, kWidth}},
                                             std::vector<KernelSpec<T>>{alike, near}, false);
}

template <typename T>
int64_t allocations_of_updates(const std::shared_ptr<const CrfModel<T>>& model, int64_t num_labels,
                               bool keeps_marginals) {
  std::vector<T> unary;
  for (int64_t i = 0; i < num_labels * kNodes; ++i) unary.push_back(static_cast<T>(i * 13 % 7));
  const Compatibility<T> potts{CompatibilityForm::scalar, {T(-3)}, T(3)};
  const auto field =
      make_mean_field<T>(model, {potts, potts}, {unary.data(), kNodes, num_labels, 1, kNodes},
                         keeps_marginals, false, false);
  const int64_t before = num_allocations;
  for (int update = 0; update < 4; ++update) field->update(keeps_marginals);
  return num_allocations - before;
}

template <typename T>
void test_updates() {
  std::vector<T> value;
  const auto model = make_model(value);
  for (const int64_t num_labels : {2, 3, 9, 17})
    for (const bool keeps_marginals : {false, true}) {
      // The first inference of this kind grows what the thread keeps for all that follow.
      const int64_t first = allocations_of_updates(model, num_labels, keeps_marginals);
      const int64_t later = allocations_of_updates(model, num_labels, keeps_marginals);
      // Shorter rows take the place of both kernels' when labels are left out, which is once.
      const bool leaves_out = sizeof(T) == sizeof(float) && num_labels > 8 && !keeps_marginals;
      CHECK(later == (leaves_out ? 2 : 0));
      CHECK(first <= later + 1);
    }
}

}  // namespace

int main() {
  set_num_threads(1);
  const int64_t before = num_allocations;
  test_updates<float>();
  test_updates<double>();
  CHECK(num_allocations - before > 100);  // they are counted
  return report();
}
