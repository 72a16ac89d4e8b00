#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>

#include "densefield/buffer.h"
#include "densefield/error.h"

namespace densefield {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and every vector register
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Blocks from this size on are kept for the next inference: the system would clear their
// pages again, which took a tenth of an inference's time.
constexpr std::size_t kCachedBlock = std::size_t{256} << 10;

std::size_t physical_bytes() {
  static const std::size_t bytes = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                                   static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

// What may lie unused: 256 MB or a sixteenth of the machine's memory, whichever is more. A 500 x
// 375 image with 21 labels needs 70 MB, its gradients 200 MB, one of 2048 x 1024 with 19 labels
// 800 MB: clearing the pages of that again was a third of an inference's time.
std::size_t max_cached_bytes() {
  constexpr std::size_t kLeast = std::size_t{256} << 20, kShare = 16;
  return std::max(kLeast, physical_bytes() / kShare);
}

// Large blocks ask for huge pages: rows of vertices are read in no order, and with small pages
// every second read of a large lattice missed the address cache.
void* allocate_pages(std::size_t num_bytes) {
  if (num_bytes < kHugePage) return std::aligned_alloc(kAlignment, num_bytes);
  const std::size_t rounded = (num_bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* ptr = std::aligned_alloc(kHugePage, rounded);
#ifdef MADV_HUGEPAGE
  if (ptr != nullptr) madvise(ptr, rounded, MADV_HUGEPAGE);  // a wish: failure changes nothing
#endif
  return ptr;
}

class HostMemory final : public Memory {
 public:
  void* allocate(std::size_t num_bytes) override {
    const std::size_t rounded = (num_bytes / kAlignment + 1) * kAlignment;
    if (void* ptr = take_cached(rounded)) return ptr;
    // An allocation beyond the machine's memory would succeed and end the process later,
    // when its pages are touched: it is refused here.
    const bool can_exist = rounded < physical_bytes();
    void* ptr = can_exist ? allocate_pages(rounded) : nullptr;
    if (ptr == nullptr && can_exist) {
      drop_cached();
      ptr = allocate_pages(rounded);
    }
    if (ptr == nullptr)
      throw Error(Error::Kind::memory,
                  "not enough memory: " + std::to_string(num_bytes) +
                      " bytes are needed at once; split the input or use float32");
    if (rounded >= kCachedBlock) remember(ptr, rounded);
    return ptr;
  }

  void release(void* ptr) noexcept override {
    const std::lock_guard lock(mutex_);
    const auto known = size_of_.find(ptr);
    if (known == size_of_.end()) return std::free(ptr);
    const std::size_t size = known->second;
    try {
      if (size <= max_cached_bytes()) {
        cached_.emplace(size, Cached{ptr, ++clock_});
        cached_bytes_ += size;
        while (cached_bytes_ > max_cached_bytes()) drop_oldest();
        return;
      }
    } catch (const std::bad_alloc&) {
      // No room for the entry: the block goes back to the system.
    }
    size_of_.erase(known);
    std::free(ptr);
  }

  std::mutex& mutex() { return mutex_; }

 private:
  struct Cached {
    void* ptr;
    int64_t released;  // by the clock that counts releases
  };
  using Entry = std::multimap<std::size_t, Cached>::iterator;

  // The smallest cached block that fits without wasting more than a third of it: for 17 labels and
  // more, a result fits where rows of the unary were.
  void* take_cached(std::size_t num_bytes) {
    if (num_bytes < kCachedBlock) return nullptr;
    const std::lock_guard lock(mutex_);
    const auto found = cached_.lower_bound(num_bytes);
    if (found == cached_.end() || found->first > num_bytes + num_bytes / 2) return nullptr;
    void* ptr = found->second.ptr;
    cached_bytes_ -= found->first;
    cached_.erase(found);
    return ptr;
  }

  // Sizes that are no longer asked for give way to those that are.
  void drop_oldest() noexcept {
    const Entry oldest = std::min_element(
        cached_.begin(), cached_.end(),
        [](const auto& a, const auto& b) { return a.second.released < b.second.released; });
    cached_bytes_ -= oldest->first;
    size_of_.erase(oldest->second.ptr);
    std::free(oldest->second.ptr);
    cached_.erase(oldest);
  }

  void drop_cached() noexcept {
    const std::lock_guard lock(mutex_);
    for (const auto& [size, block] : cached_) {
      size_of_.erase(block.ptr);
      std::free(block.ptr);
    }
    cached_.clear();
    cached_bytes_ = 0;
  }

  void remember(void* ptr, std::size_t size) {
    const std::lock_guard lock(mutex_);
    try {
      size_of_.emplace(ptr, size);
    } catch (...) {
      std::free(ptr);
      throw;
    }
  }

  std::mutex mutex_;
  std::unordered_map<void*, std::size_t> size_of_;  // all blocks of kCachedBlock and more
  std::multimap<std::size_t, Cached> cached_;       // those that lie unused
  std::size_t cached_bytes_ = 0;
  int64_t clock_ = 0;
};

HostMemory& the_host_memory();

// Never destroyed: threads may still free memory while the process ends. A fork waits for
// the lock, so that the child does not inherit it held by a thread that it lacks.
HostMemory& the_host_memory() {
  static HostMemory* memory = [] {
    pthread_atfork([] { the_host_memory().mutex().lock(); },
                   [] { the_host_memory().mutex().unlock(); },
                   [] { the_host_memory().mutex().unlock(); });
    return new HostMemory;
  }();
  return *memory;
}

}  // namespace

Memory& host_memory() { return the_host_memory(); }

}  // namespace densefield
