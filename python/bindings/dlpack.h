// The structures of DLPack 1.0 as they lie in memory: what libraries hand arrays to each other by.
#pragma once

#include <cstdint>

namespace densefield::bindings::dlpack {

enum DeviceType : int32_t {
  kCuda = 2,
  kCudaManaged = 13,
  kExtension = 12,  // devices that DLPack does not know: here the emulated one
};
struct Device {
  int32_t type;
  int32_t number;
};

enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };
struct DataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t num_axes;
  DataType type;
  int64_t* extent;
  int64_t* stride;  // in elements; nullptr: C-contiguous
  uint64_t byte_offset;
};

// Before version 1.0.
struct ManagedTensor {
  static constexpr const char* kName = "dltensor";
  static constexpr const char* kUsedName = "used_dltensor";

  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

struct VersionedTensor {
  static constexpr const char* kName = "dltensor_versioned";
  static constexpr const char* kUsedName = "used_dltensor_versioned";
  static constexpr uint64_t kReadOnly = 1;

  struct {
    uint32_t major, minor;
  } version;
  void* context;
  void (*deleter)(VersionedTensor*);
  uint64_t flags;
  Tensor tensor;
};

}  // namespace densefield::bindings::dlpack
