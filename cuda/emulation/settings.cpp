#include "settings.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace densefield::emulation {
namespace {

uint64_t number_from(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : otherwise;
}

Settings from_environment() {
  Settings settings{};
  const unsigned processors = std::max(1u, std::thread::hardware_concurrency());
  settings.num_workers =
      std::max(1, static_cast<int>(number_from("DENSEFIELD_EMULATION_THREADS", processors)));
  const char* order = std::getenv("DENSEFIELD_EMULATION_ORDER");
  settings.is_reversed = order != nullptr && std::strcmp(order, "reversed") == 0;
  settings.seed = settings.is_reversed ? 0 : number_from("DENSEFIELD_EMULATION_ORDER", 0);
  const std::size_t physical = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                               static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  // More than the host has would end the process when it is touched.
  settings.device_bytes =
      std::min<std::size_t>(physical, number_from("DENSEFIELD_EMULATION_MEMORY", physical));
  settings.num_devices =
      std::max(1, static_cast<int>(number_from("DENSEFIELD_EMULATION_DEVICES", 1)));
  settings.switch_per_million = static_cast<int>(number_from("DENSEFIELD_EMULATION_SWITCHES", 0));
  return settings;
}

}  // namespace

Settings& settings() {
  static Settings settings = from_environment();
  return settings;
}

}  // namespace densefield::emulation
