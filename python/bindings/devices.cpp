#include "devices.h"

#include <dlfcn.h>

#include <atomic>
#include <charconv>
#include <mutex>
#include <optional>

#include "../../cuda/library.h"
#include "densefield/error.h"

namespace densefield::bindings {
namespace {

enum class Kind { cpu, cuda, cuda_emulated };

constexpr const char* kNames[] = {"cpu", "cuda", "cuda-emulated"};

struct Device {
  Kind kind = Kind::cpu;
  int number = 0;

  std::string name() const {
    const std::string kind_name = kNames[static_cast<int>(kind)];
    return number == 0 ? kind_name : kind_name + ":" + std::to_string(number);
  }
};

Device device_from(const std::string& name) {
  const auto colon = name.find(':');
  for (int i = 0; i < 3; ++i) {
    if (name.substr(0, colon) != kNames[i]) continue;
    Device device{static_cast<Kind>(i), 0};
    if (colon == std::string::npos) return device;
    const char* const end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + colon + 1, end, device.number);
    if (i > 0 && stop == end && error == std::errc{} && device.number >= 0) return device;
  }
  fail_value("device must be 'cpu', 'cuda' or 'cuda:N' for the N-th GPU, got '" + name + "'");
}

// The file next to this module.
std::string path_of(const std::string& file) {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&path_of), &info) == 0) return file;
  const std::string own = info.dli_fname;
  const auto slash = own.rfind('/');
  return slash == std::string::npos ? file : own.substr(0, slash + 1) + file;
}

// A CUDA library, opened when it is first asked for and never closed.
class CudaLibrary {
 public:
  CudaLibrary(const std::string& file, std::string note) {
    void* const handle = dlopen(path_of(file).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* const reason = dlerror();
      problem_ = !note.empty() ? std::move(note) : reason != nullptr ? reason : "cannot be opened";
      return;
    }
    decltype(densefield_cuda_build)* build = nullptr;
    decltype(densefield_cuda_problem)* find_problem = nullptr;
    const bool has_all = find(handle, "densefield_cuda_build", build) &&
                         find(handle, "densefield_cuda_problem", find_problem) &&
                         find(handle, "densefield_cuda_device_name", device_name_) &&
                         find(handle, "densefield_cuda_backend", backend_) &&
                         find(handle, "densefield_cuda_arrays", arrays_) &&
                         find(handle, "densefield_cuda_choose_device", choose_device_) &&
                         find(handle, "densefield_cuda_device_of", device_of_);
    if (!has_all || std::string(build()) != DF_CUDA_BUILD)
      problem_ = file + " is not of this build of densefield; install densefield again";
    else if (const char* const reason = find_problem())
      problem_ = reason;
  }

  const std::string& problem() const { return problem_; }
  template <typename T>
  Backend<T>& backend(int number, void* stream) const {
    return *started<Backend<T>>(backend_(number, stream, sizeof(T) == sizeof(double) ? 1 : 0));
  }
  DeviceArrays& arrays(int number, void* stream) const {
    return *started<DeviceArrays>(arrays_(number, stream));
  }
  bool has_device(int number) const { return *device_name_(number) != '\0'; }
  int num_devices() const {
    int count = 0;
    while (has_device(count)) ++count;
    return count;
  }
  int choose_device(int number) const { return choose_device_(number); }
  int device_of(const void* pointer) const { return device_of_(pointer); }

 private:
  template <typename Function>
  static bool find(void* handle, const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(dlsym(handle, name));
    return function != nullptr;
  }
  template <typename Object>
  static Object* started(void* object) {
    if (object == nullptr) throw Error(Error::Kind::runtime, "the CUDA device does not start");
    return static_cast<Object*>(object);
  }

  std::string problem_;
  decltype(densefield_cuda_device_name)* device_name_ = nullptr;
  decltype(densefield_cuda_backend)* backend_ = nullptr;
  decltype(densefield_cuda_arrays)* arrays_ = nullptr;
  decltype(densefield_cuda_choose_device)* choose_device_ = nullptr;
  decltype(densefield_cuda_device_of)* device_of_ = nullptr;
};

// The real device's, once it was opened and can be used.
std::atomic<const CudaLibrary*> real_library = nullptr;

const CudaLibrary& library_of(Kind kind) {
  if (kind == Kind::cuda) {
    static const auto* library = [] {
      const auto* opened = new CudaLibrary("_densefield_cuda.so", DF_CUDA_BUILD_NOTE);
      if (opened->problem().empty()) real_library = opened;
      return opened;
    }();
    return *library;
  }
  static const auto* library = new CudaLibrary("_densefield_cuda_emulated.so", "");
  return *library;
}

Device usable(const std::string& name) {
  const Device device = device_from(name);
  std::string problem = device_problem(name);
  if (problem.empty()) return device;
  throw Error(Error::Kind::runtime, "device='" + name + "' was asked for, but " + problem +
                                        "; install what is missing, or use device='cpu'");
}

std::mutex mutex;
Device of_process;
thread_local std::optional<Device> here;
thread_local void* stream_here = nullptr;

Device current() {
  if (here) return *here;
  const std::lock_guard lock(mutex);
  return of_process;
}

}  // namespace

std::string device_problem(const std::string& name) {
  const Device device = device_from(name);
  if (device.kind == Kind::cpu) return "";
  const CudaLibrary& library = library_of(device.kind);
  if (!library.problem().empty() || library.has_device(device.number)) return library.problem();
  return "the last device that this process can use is '" +
         Device{device.kind, library.num_devices() - 1}.name() + "'";
}

void set_device(const std::string& name) {
  const Device device = usable(name);
  const std::lock_guard lock(mutex);
  of_process = device;
}

std::string set_device_here(const std::string& name) {
  const std::optional<Device> previous = here;
  if (name.empty())
    here.reset();
  else
    here = usable(name);
  return previous ? previous->name() : "";
}

void* set_stream_here(void* stream) { return std::exchange(stream_here, stream); }

std::string device() { return current().name(); }

std::string numbered(const std::string& device) {
  return device.find(':') == std::string::npos ? device + ":0" : device;
}

template <typename T>
Backend<T>& current_backend() {
  const Device device = current();
  if (device.kind == Kind::cpu) return cpu_backend<T>();
  return library_of(device.kind).template backend<T>(device.number, stream_here);
}
template Backend<float>& current_backend();
template Backend<double>& current_backend();

DeviceArrays& arrays_on(const std::string& name, void* stream) {
  const Device device = usable(name);
  if (device.kind == Kind::cpu) fail_value("device must be a CUDA device, got 'cpu'");
  return library_of(device.kind).arrays(device.number, stream);
}

std::string device_of_memory(const void* pointer) {
  for (const Kind kind : {Kind::cuda, Kind::cuda_emulated}) {
    const CudaLibrary& library = library_of(kind);
    const int number = library.problem().empty() ? library.device_of(pointer) : -1;
    if (number >= 0) return numbered(Device{kind, number}.name());
  }
  return "";
}

DeviceKept::DeviceKept()
    : before_(real_library != nullptr ? real_library.load()->choose_device(-1) : -1) {}

DeviceKept::~DeviceKept() {
  if (before_ >= 0) real_library.load()->choose_device(before_);
}

}  // namespace densefield::bindings
