// Copies of A, Bᵀ, dA and dBᵀ with rows in the format of the kernels (SliceShape).
//
// If h is not a multiple of the vector width, rows start anywhere in a cache line: nearly every vector spans
// two lines, and the last one needs a mask. Padding rows with zeros costs a copy of the factors and gives the
// same sums. Rows of bfloat16 are always copied: in alternating order a vector of 16-bit numbers is widened to
// two of 32 bits without a shuffle.
#pragma once

#include <memory>

#include "../parallel.h"
#include "tile_kernels.h"

namespace dmf {

class PreparedOperands {
 public:
  PreparedOperands(const LayoutView& layout, Task task, Dtype dtype, const Operands& operands, SliceShape shape,
                   Parallel& parallel);

  const Operands& operands() const { return prepared_; }

  // Copies the gradients to where the caller wants them.
  void finish();

 private:
  static constexpr int64_t alignment = 64;

  class Buffer {
   public:
    void* allocate(int64_t bytes) {
      memory_.reset(new Line[(bytes + alignment - 1) / alignment]);
      return memory_.get();
    }

   private:
    struct alignas(alignment) Line {
      char bytes[alignment];
    };
    std::unique_ptr<Line[]> memory_;
  };

  bool pads() const { return prepared_.h != given_.h; }
  bool pads_gradients() const { return pads() && writes_gradients(task_); }
  const void* prepared_factor(const void* given, int64_t rows, Buffer& buffer) const;
  void return_gradient(const void* from, void* to, int64_t rows) const;

  const int64_t rows_, columns_;
  const Task task_;
  const Dtype dtype_;
  const SliceShape shape_;
  const Operands given_;
  Operands prepared_;
  Parallel& parallel_;
  Buffer a_, b_, gradient_a_, gradient_b_;
};

}  // namespace dmf
