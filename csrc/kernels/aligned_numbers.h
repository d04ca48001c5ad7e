// An array of numbers, aligned to a cache line and zero-initialized.
#pragma once

#include <cstdint>
#include <memory>

namespace dmf {

template <class T>
class AlignedNumbers {
 public:
  AlignedNumbers() = default;
  explicit AlignedNumbers(int64_t count) : lines_(new Line[(count + per_line - 1) / per_line]()) {}

  T* data() const { return lines_ == nullptr ? nullptr : lines_[0].numbers; }
  T& operator[](int64_t place) const { return data()[place]; }

 private:
  static constexpr int64_t per_line = 64 / sizeof(T);
  struct alignas(64) Line {
    T numbers[per_line];
  };
  std::unique_ptr<Line[]> lines_;
};

}  // namespace dmf
