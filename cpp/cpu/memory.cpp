#include <unistd.h>

#include <cstdlib>
#include <new>
#include <string>

#include "densefield/buffer.h"
#include "densefield/error.h"

namespace densefield {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and every vector register

std::size_t physical_bytes() {
  static const std::size_t bytes = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                                   static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// An allocation beyond the machine's memory would succeed and end the process later, when
// its pages are touched: it is refused here.
class HostMemory final : public Memory {
 public:
  void* allocate(std::size_t num_bytes) override {
    const std::size_t rounded = (num_bytes + kAlignment) / kAlignment * kAlignment;
    void* ptr = rounded < physical_bytes() ? std::aligned_alloc(kAlignment, rounded) : nullptr;
    if (ptr == nullptr)
      throw Error(Error::Kind::memory,
                  "not enough memory: " + std::to_string(num_bytes) +
                      " bytes are needed at once; split the input or use float32");
    return ptr;
  }
  void release(void* ptr) noexcept override { std::free(ptr); }
};

}  // namespace

Memory& host_memory() {
  static HostMemory memory;
  return memory;
}

}  // namespace densefield
