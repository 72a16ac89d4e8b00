#include "device_array.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "densefield/error.h"
#include "devices.h"
#include "dlpack.h"

namespace densefield::bindings {
namespace {

struct Element {
  ElementType type;
  const char* numpy;  // of numpy.dtype
  dlpack::TypeCode code;
  uint8_t bits;
};
constexpr Element kElements[] = {
    {ElementType::boolean, "?", dlpack::kBool, 8},
    {ElementType::int8, "i1", dlpack::kInt, 8},
    {ElementType::uint8, "u1", dlpack::kUInt, 8},
    {ElementType::int16, "i2", dlpack::kInt, 16},
    {ElementType::uint16, "u2", dlpack::kUInt, 16},
    {ElementType::int32, "i4", dlpack::kInt, 32},
    {ElementType::uint32, "u4", dlpack::kUInt, 32},
    {ElementType::int64, "i8", dlpack::kInt, 64},
    {ElementType::uint64, "u8", dlpack::kUInt, 64},
    {ElementType::float16, "f2", dlpack::kFloat, 16},
    {ElementType::bfloat16, "V2", dlpack::kBfloat, 16},
    {ElementType::float32, "f4", dlpack::kFloat, 32},
    {ElementType::float64, "f8", dlpack::kFloat, 64},
};

const Element& element_of(ElementType type) {
  return *std::ranges::find(kElements, type, &Element::type);
}

constexpr const char* kWantedTypes =
    "must hold real numbers of at most 64 bits; convert it where it is first";

ElementType element_type(dlpack::DataType type) {
  for (const Element& element : kElements)
    if (element.code == type.code && element.bits == type.bits && type.lanes == 1)
      return element.type;
  throw Error(Error::Kind::type, std::string(kWantedTypes) + ", got DLPack type code " +
                                     std::to_string(type.code) + " of " +
                                     std::to_string(type.bits) + " bits");
}

void set_contiguous_strides(StridedArray& view) {
  int64_t stride = 1;
  for (int a = view.num_axes - 1; a >= 0; --a) {
    view.stride[a] = stride;
    stride *= view.extent[a];
  }
}

std::string device_name(const dlpack::Tensor& tensor) {
  const std::string number = ":" + std::to_string(tensor.device.number);
  if (tensor.device.type == dlpack::kCuda || tensor.device.type == dlpack::kCudaManaged)
    return "cuda" + number;
  // Anybody's extension has this type: it is ours if the memory is.
  if (tensor.device.type == dlpack::kExtension &&
      device_of_memory(tensor.data) == "cuda-emulated" + number)
    return "cuda-emulated" + number;
  throw Error(Error::Kind::type, "is on a device of DLPack type " +
                                     std::to_string(tensor.device.type) +
                                     " that is neither the CPU nor CUDA; copy it to one of them");
}

StridedArray view_of(const dlpack::Tensor& tensor) {
  StridedArray view;
  view.type = element_type(tensor.type);
  view.num_axes = checked_num_axes(tensor.num_axes);
  view.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  std::copy_n(tensor.extent, tensor.num_axes, view.extent);
  if (tensor.stride == nullptr)
    set_contiguous_strides(view);
  else
    std::copy_n(tensor.stride, tensor.num_axes, view.stride);
  return view;
}

// Gives a tensor back when Python drops what was made of it.
template <typename Managed>
void give_back(void* tensor) {
  auto* const managed = static_cast<Managed*>(tensor);
  if (managed->deleter != nullptr) managed->deleter(managed);
}

template <typename Managed>
DeviceArray take_over(const py::capsule& capsule, void* stream, bool is_writable) {
  auto* const managed = static_cast<Managed*>(capsule.get_pointer());
  DeviceArray array{view_of(managed->tensor), device_name(managed->tensor), stream, is_writable,
                    py::none()};
  if (PyCapsule_SetName(capsule.ptr(), Managed::kUsedName) != 0) throw py::error_already_set();
  array.owner = py::capsule(static_cast<void*>(managed), &give_back<Managed>);
  return array;
}

// What a capsule of ours holds: the tensor, its extents, and the memory's owner.
template <typename Managed>
struct Exported {
  Managed managed{};
  StridedArray view;
  py::object owner;

  static void release(Managed* managed) {
    const py::gil_scoped_acquire acquire;
    delete static_cast<Exported*>(managed->context);
  }
};

template <typename Managed>
py::capsule export_as(const DeviceArray& array) {
  auto exported = std::make_unique<Exported<Managed>>();
  exported->view = array.view;
  exported->owner = array.owner;
  Managed& managed = exported->managed;
  const Element& element = element_of(array.view.type);
  const py::tuple device = dlpack_device(array);
  managed.tensor = {array.view.data,
                    {device[0].cast<int32_t>(), device[1].cast<int32_t>()},
                    array.view.num_axes,
                    {element.code, element.bits, 1},
                    exported->view.extent,
                    exported->view.stride,
                    0};
  managed.context = exported.get();
  managed.deleter = &Exported<Managed>::release;
  if constexpr (std::is_same_v<Managed, dlpack::VersionedTensor>) {
    managed.version = {1, 0};
    managed.flags = array.is_writable ? 0 : dlpack::VersionedTensor::kReadOnly;
  }
  PyObject* const capsule = PyCapsule_New(&managed, Managed::kName, [](PyObject* dropped) {
    if (PyCapsule_IsValid(dropped, Managed::kName) == 0) return;  // a consumer has it
    give_back<Managed>(PyCapsule_GetPointer(dropped, Managed::kName));
  });
  if (capsule == nullptr) throw py::error_already_set();
  exported.release();
  return py::reinterpret_steal<py::capsule>(capsule);
}

}  // namespace

ElementType element_type(const py::dtype& dtype) {
  for (const Element& element : kElements)
    if (element.type != ElementType::bfloat16 && dtype.byteorder() != '>' &&
        dtype.kind() == (element.numpy[0] == '?' ? 'b' : element.numpy[0]) &&
        dtype.itemsize() * 8 == element.bits)
      return element.type;
  throw Error(Error::Kind::type,
              std::string(kWantedTypes) + ", got dtype " + py::str(dtype).cast<std::string>());
}

py::dtype numpy_dtype(ElementType type) { return py::dtype(element_of(type).numpy); }

int checked_num_axes(py::ssize_t count) {
  if (count > kMostArrayAxes)
    fail_value("must have at most " + std::to_string(kMostArrayAxes) + " dimensions, got " +
               std::to_string(count) + "; reshape it");
  return static_cast<int>(count);
}

DeviceArray new_device_array(const py::dtype& dtype, const std::vector<int64_t>& shape,
                             const std::string& device, void* stream) {
  DeviceArrays& arrays = arrays_on(device, stream);
  DeviceArray array{{}, numbered(device), arrays.stream(), true, py::none()};
  array.view.type = element_type(dtype);
  array.view.num_axes = checked_num_axes(static_cast<py::ssize_t>(shape.size()));
  std::ranges::copy(shape, array.view.extent);
  set_contiguous_strides(array.view);
  const DeviceKept kept;
  auto memory =
      std::make_unique<Buffer<std::byte>>(arrays.memory(), array.view.size() * dtype.itemsize());
  array.view.data = memory->data();
  array.owner =
      py::capsule(memory.get(), [](void* owned) { delete static_cast<Buffer<std::byte>*>(owned); });
  memory.release();
  return array;
}

DeviceArray from_dlpack(const py::capsule& capsule, void* stream) {
  const std::string name = capsule.name() == nullptr ? "" : capsule.name();
  if (name == dlpack::ManagedTensor::kName)
    return take_over<dlpack::ManagedTensor>(capsule, stream, true);
  if (name != dlpack::VersionedTensor::kName)
    fail_value("gave a capsule '" + name + "', which is no DLPack tensor, or was used before");
  const auto* const managed = capsule.get_pointer<dlpack::VersionedTensor>();
  if (managed->version.major != 1)
    fail_value("gave DLPack version " + std::to_string(managed->version.major) +
               ", but 1 was asked for; update one of the two packages");
  const bool is_writable = (managed->flags & dlpack::VersionedTensor::kReadOnly) == 0;
  return take_over<dlpack::VersionedTensor>(capsule, stream, is_writable);
}

py::capsule to_dlpack(const DeviceArray& array, bool is_versioned) {
  return is_versioned ? export_as<dlpack::VersionedTensor>(array)
                      : export_as<dlpack::ManagedTensor>(array);
}

py::tuple dlpack_device(const DeviceArray& array) {
  const auto colon = array.device.find(':');
  const bool is_cuda = array.device.substr(0, colon) == "cuda";
  return py::make_tuple(int{is_cuda ? dlpack::kCuda : dlpack::kExtension},
                        std::stoi(array.device.substr(colon + 1)));
}

}  // namespace densefield::bindings
