#include "devices.h"

#include <dlfcn.h>

#include <mutex>

#include "../../cuda/library.h"
#include "densefield/error.h"

namespace densefield::bindings {
namespace {

enum class Device { cpu, cuda, cuda_emulated };

constexpr const char* kNames[] = {"cpu", "cuda", "cuda-emulated"};

Device device_from(const std::string& name) {
  for (int i = 0; i < 3; ++i)
    if (name == kNames[i]) return static_cast<Device>(i);
  fail_value("device must be 'cpu' or 'cuda', got '" + name + "'");
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
    const auto build = symbol<decltype(densefield_cuda_build)>(handle, "densefield_cuda_build");
    const auto problem =
        symbol<decltype(densefield_cuda_problem)>(handle, "densefield_cuda_problem");
    backend_ = symbol<decltype(densefield_cuda_backend)>(handle, "densefield_cuda_backend");
    if (build == nullptr || problem == nullptr || backend_ == nullptr ||
        std::string(build()) != DF_CUDA_BUILD)
      problem_ = file + " is not of this build of densefield; install densefield again";
    else if (const char* const reason = problem())
      problem_ = reason;
  }

  const std::string& problem() const { return problem_; }
  template <typename T>
  Backend<T>& backend() const {
    void* const backend = backend_(0, nullptr, sizeof(T) == sizeof(double) ? 1 : 0);
    if (backend == nullptr) throw Error(Error::Kind::runtime, "the CUDA device does not start");
    return *static_cast<Backend<T>*>(backend);
  }

 private:
  template <typename Function>
  static Function* symbol(void* handle, const char* name) {
    return reinterpret_cast<Function*>(dlsym(handle, name));
  }

  std::string problem_;
  decltype(densefield_cuda_backend)* backend_ = nullptr;
};

const CudaLibrary& library_of(Device device) {
  if (device == Device::cuda) {
    static const auto* library = new CudaLibrary("_densefield_cuda.so", DF_CUDA_BUILD_NOTE);
    return *library;
  }
  static const auto* library = new CudaLibrary("_densefield_cuda_emulated.so", "");
  return *library;
}

Device usable(const std::string& name) {
  const Device device = device_from(name);
  const std::string problem = device_problem(name);
  if (!problem.empty())
    throw Error(Error::Kind::runtime, "device='" + name + "' was asked for, but " + problem +
                                          "; install what is missing, or use device='cpu'");
  return device;
}

std::mutex mutex;
Device of_process = Device::cpu;
thread_local int here = -1;  // a Device, or -1

Device current() {
  if (here >= 0) return static_cast<Device>(here);
  const std::lock_guard lock(mutex);
  return of_process;
}

}  // namespace

std::string device_problem(const std::string& name) {
  const Device device = device_from(name);
  return device == Device::cpu ? "" : library_of(device).problem();
}

void set_device(const std::string& name) {
  const Device device = usable(name);
  const std::lock_guard lock(mutex);
  of_process = device;
}

std::string set_device_here(const std::string& name) {
  const int previous = here;
  here = name.empty() ? -1 : static_cast<int>(usable(name));
  return previous < 0 ? "" : kNames[previous];
}

std::string device() { return kNames[static_cast<int>(current())]; }

template <typename T>
Backend<T>& current_backend() {
  const Device device = current();
  return device == Device::cpu ? cpu_backend<T>() : library_of(device).template backend<T>();
}
template Backend<float>& current_backend();
template Backend<double>& current_backend();

}  // namespace densefield::bindings
