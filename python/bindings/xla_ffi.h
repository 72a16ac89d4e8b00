// The structures of XLA's typed foreign function interface as they lie in memory: how a compiled
// program of JAX calls a function of ours. Declared are those that such a function reads, and of
// each what lies the same in versions 0.1 to 0.3: a minor version only adds members, at the end,
// and every structure says how long it is.
#pragma once

#include <cstddef>
#include <cstdint>

namespace densefield::bindings::xla_ffi {

constexpr int32_t kMajorVersion = 0;
constexpr int32_t kOldestMinorVersion = 1, kNewestMinorVersion = 3;

// A list of what a caller wants beyond a call.
struct Extension {
  std::size_t num_bytes;
  int32_t type;
  Extension* next;
};

// What most structures begin with. `num_bytes` goes to the end of the last member.
struct Head {
  std::size_t num_bytes;
  Extension* extensions;
};

struct Version {
  Head head;
  int32_t major, minor;
};

// What a function tells of itself. A caller asks for it when the function is registered, by a call
// with this extension and nothing else, and expects an answer instead of the work.
struct Metadata {
  std::size_t num_bytes;
  Version version;  // out: what the function was written for
  uint32_t traits;  // out
};
struct MetadataExtension {
  static constexpr int32_t kType = 1;

  Extension base;
  Metadata* metadata;
};

// An array in memory, C-contiguous unless another layout was asked for.
enum ElementType : int32_t { kFloat32 = 11, kFloat64 = 12 };  // of many
struct Buffer {
  Head head;
  int32_t type;
  void* data;
  int64_t num_axes;
  int64_t* extent;  // [num_axes]
};

// Arguments or results.
struct Buffers {
  static constexpr int32_t kBuffer = 1;  // the one type of an argument or result that there is

  Head head;
  int64_t count;
  int32_t* type;  // [count]
  void** buffer;  // [count] pointers to Buffer
};

// Not ended by a zero.
struct Text {
  const char* data;
  std::size_t size;
};

struct Attributes {
  static constexpr int32_t kText = 4;  // of four types

  Head head;
  int64_t count;
  int32_t* type;  // [count]
  Text** name;    // [count], sorted
  void** value;   // [count] pointers to Text where the type is kText
};

// nullptr: all went well.
struct Error;
enum ErrorCode : int32_t {
  kCancelled = 1,
  kInvalidArgument = 3,
  kResourceExhausted = 8,
  kInternal = 13,
};
struct ErrorDescription {
  Head head;
  const char* text;  // ended by a zero; copied
  int32_t code;
};

// Functions of XLA; many more follow.
struct Functions {
  Head head;
  Version version;
  const void* internal;
  Error* (*make_error)(ErrorDescription*);  // the caller of a handler takes the error over
};

struct Call {
  static constexpr int32_t kExecute = 3;

  Head head;
  const Functions* functions;
  void* context;
  int32_t stage;
  Buffers arguments, results;
  Attributes attributes;
};

}  // namespace densefield::bindings::xla_ffi
