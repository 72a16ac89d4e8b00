// The one exception of the library. The bindings map Kind to the Python exception of that name.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace densefield {

class Error : public std::exception {
 public:
  enum class Kind {
    type,     // TypeError: an argument of the wrong kind
    value,    // ValueError: a wrong shape or value
    runtime,  // RuntimeError: the device or the build
    memory,   // MemoryError: the text names the number of bytes
  };

  Error(Kind kind, std::string text) : kind_(kind), text_(std::move(text)) {}

  Kind kind() const noexcept { return kind_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  Kind kind_;
  std::string text_;
};

[[noreturn]] inline void fail_value(std::string text) {
  throw Error(Error::Kind::value, std::move(text));
}

}  // namespace densefield
