// Device memory for the duration of one operation.
#pragma once

#include <cstdint>

namespace dmf::cuda {

// The owner of the memory: torch's caching allocator inside an operator, plain arrays in the C++ tests.
class Workspace {
 public:
  virtual ~Workspace() = default;

  // `bytes` bytes, aligned to 256, uninitialized; null for 0 bytes.
  void* take(int64_t bytes) { return bytes == 0 ? nullptr : take_some(bytes); }

  template <class T>
  T* take_array(int64_t count) {
    return static_cast<T*>(take(count * static_cast<int64_t>(sizeof(T))));
  }

 protected:
  virtual void* take_some(int64_t bytes) = 0;
};

}  // namespace dmf::cuda
