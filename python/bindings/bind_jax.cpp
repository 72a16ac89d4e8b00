// What a program compiled by JAX calls on the CPU: a handler of XLA that hands its arrays to a
// function of densefield/jax.py, where they are.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include "arrays.h"
#include "bind.h"
#include "densefield/error.h"
#include "xla_ffi.h"

namespace densefield::bindings {
namespace {

// Of densefield/jax.py, never released: programs may call until the process is gone.
std::atomic<PyObject*> compute{nullptr};

// When Python ends, JAX waits for XLA's threads and holds the interpreter's lock meanwhile. So the
// calls that are here then are waited for before that, and later ones refused.
std::atomic<int> num_calls{0};
std::atomic<bool> has_ended{false};

class CountedCall {
 public:
  CountedCall() { ++num_calls; }
  CountedCall(const CountedCall&) = delete;
  CountedCall& operator=(const CountedCall&) = delete;
  ~CountedCall() {
    if (--num_calls == 0) num_calls.notify_all();
  }
};

void end_calls() {
  has_ended = true;
  const py::gil_scoped_release released;
  for (int count = num_calls; count != 0; count = num_calls) num_calls.wait(count);
}

// Throws Error (runtime) if a structure ends before the members that we know.
void check_length(const char* name, std::size_t num_bytes, std::size_t wanted) {
  if (num_bytes < wanted)
    throw Error(Error::Kind::runtime, std::string("XLA's ") + name + " has " +
                                          std::to_string(num_bytes) + " bytes, but " +
                                          std::to_string(wanted) + " are read; update jaxlib");
}

// The newest version of the interface that both sides know. Callers that do not say theirs have the
// oldest, and take no other.
xla_ffi::Version common_version(const xla_ffi::Call& call, const xla_ffi::Version& asked) {
  xla_ffi::Version version = asked;
  version.major = xla_ffi::kMajorVersion;
  version.minor = call.functions == nullptr
                      ? xla_ffi::kOldestMinorVersion
                      : std::min(call.functions->version.minor, xla_ffi::kNewestMinorVersion);
  return version;
}

// True if the call only asks what the handler is; answers it.
bool answers_metadata(const xla_ffi::Call& call) {
  for (xla_ffi::Extension* asked = call.head.extensions; asked != nullptr; asked = asked->next) {
    if (asked->type != xla_ffi::MetadataExtension::kType) continue;
    xla_ffi::Metadata& metadata = *reinterpret_cast<xla_ffi::MetadataExtension*>(asked)->metadata;
    metadata.version = common_version(call, metadata.version);
    metadata.traits = 0;
    return true;
  }
  return false;
}

py::dtype dtype_of(const xla_ffi::Buffer& buffer) {
  switch (buffer.type) {
    case xla_ffi::kFloat32: return py::dtype::of<float>();
    case xla_ffi::kFloat64: return py::dtype::of<double>();
    default:
      throw Error(Error::Kind::type, "arrays must be float32 or float64, got XLA's type " +
                                         std::to_string(buffer.type));
  }
}

// The buffers as NumPy arrays, valid while the call lasts.
py::list arrays_of(const xla_ffi::Buffers& buffers, bool will_write) {
  check_length("list of buffers", buffers.head.num_bytes, sizeof(xla_ffi::Buffers));
  py::list arrays;
  for (int64_t i = 0; i < buffers.count; ++i) {
    if (buffers.type[i] != xla_ffi::Buffers::kBuffer)
      throw Error(Error::Kind::type, "expected arrays alone of XLA");
    const auto& buffer = *static_cast<const xla_ffi::Buffer*>(buffers.buffer[i]);
    check_length("buffer", buffer.head.num_bytes, sizeof(xla_ffi::Buffer));
    const std::vector<py::ssize_t> shape(buffer.extent, buffer.extent + buffer.num_axes);
    // An owner, though it owns nothing, keeps pybind11 from copying.
    py::array array(dtype_of(buffer), shape, buffer.data, py::none());
    if (!will_write) array.attr("setflags")(py::arg("write") = false);
    arrays.append(std::move(array));
  }
  return arrays;
}

py::dict texts_of(const xla_ffi::Attributes& attributes) {
  check_length("list of attributes", attributes.head.num_bytes, sizeof(xla_ffi::Attributes));
  py::dict texts;
  for (int64_t i = 0; i < attributes.count; ++i) {
    if (attributes.type[i] != xla_ffi::Attributes::kText)
      throw Error(Error::Kind::type, "expected texts alone for attributes of XLA's call");
    const xla_ffi::Text& name = *attributes.name[i];
    const auto& text = *static_cast<const xla_ffi::Text*>(attributes.value[i]);
    texts[py::str(name.data, name.size)] = py::str(text.data, text.size);
  }
  return texts;
}

// XLA's kind of error for one of Python's.
xla_ffi::ErrorCode code_of(const py::error_already_set& error) {
  if (error.matches(PyExc_KeyboardInterrupt)) return xla_ffi::kCancelled;
  if (error.matches(PyExc_MemoryError)) return xla_ffi::kResourceExhausted;
  if (error.matches(PyExc_ValueError) || error.matches(PyExc_TypeError))
    return xla_ffi::kInvalidArgument;
  return xla_ffi::kInternal;
}

// As Python writes it, without the way to it.
std::string text_of(const py::error_already_set& error) {
  const auto name = error.type().attr("__name__").cast<std::string>();
  return name + ": " + py::str(error.value()).cast<std::string>();
}

xla_ffi::Error* error_of(const xla_ffi::Call& call, xla_ffi::ErrorCode code, const char* text) {
  constexpr std::size_t kNumBytes = offsetof(xla_ffi::ErrorDescription, code) + sizeof(int32_t);
  xla_ffi::ErrorDescription description{{kNumBytes, nullptr}, text, code};
  return call.functions->make_error(&description);
}

// With the interpreter's lock.
xla_ffi::Error* fill_results(const xla_ffi::Call& call) {
  try {
    try {
      const py::handle function = compute.load();
      function(arrays_of(call.arguments, false), arrays_of(call.results, true),
               **texts_of(call.attributes));
      return nullptr;
    } catch (const py::error_already_set& error) {
      return error_of(call, code_of(error), text_of(error).c_str());
    }
  } catch (const std::exception& error) {  // ours, or of an exception that cannot be written
    return error_of(call, xla_ffi::kInternal, error.what());
  }
}

// Called by any thread of XLA, which has released the interpreter's lock where it waits for the
// result; several may be here at once.
xla_ffi::Error* handle_call(xla_ffi::Call* call) {
  if (answers_metadata(*call)) return nullptr;
  if (call->stage != xla_ffi::Call::kExecute) return nullptr;
  if (call->head.num_bytes < sizeof(xla_ffi::Call))
    return error_of(*call, xla_ffi::kInternal, "XLA's call is shorter than it was; update jaxlib");
  const CountedCall counted;
  if (has_ended) return error_of(*call, xla_ffi::kCancelled, "Python is about to end");
  const py::gil_scoped_acquire acquire;
  return fill_results(*call);
}

// The handler that calls `function(arguments, results, **attributes)`, for all programs.
py::capsule jax_handler(const py::function& function) {
  compute = function.inc_ref().ptr();
  py::module_::import("atexit").attr("register")(py::cpp_function(&end_calls));
  return py::capsule(reinterpret_cast<void*>(&handle_call));
}

}  // namespace

void bind_jax(py::module_& module) { module.def("jax_handler", &jax_handler); }

}  // namespace densefield::bindings
