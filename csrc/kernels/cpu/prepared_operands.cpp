#include "prepared_operands.h"

#include <cstring>

namespace dmf {
namespace {

// Writes rows of h numbers as rows of padded_h, the unit of 2 · width numbers in alternating order.
void alternate(const uint16_t* from, int64_t h, uint16_t* to, int64_t padded_h, int width) {
  for (int64_t unit = 0; unit < padded_h; unit += 2 * width) {
    const uint16_t *first = from + unit, *second = first + width;
    if (unit + 2 * width <= h) {
      for (int lane = 0; lane < width; ++lane) {
        to[unit + 2 * lane] = first[lane];
        to[unit + 2 * lane + 1] = second[lane];
      }
    } else {
      for (int lane = 0; lane < width; ++lane) {
        to[unit + 2 * lane] = unit + lane < h ? first[lane] : uint16_t{0};
        to[unit + 2 * lane + 1] = unit + width + lane < h ? second[lane] : uint16_t{0};
      }
    }
  }
}

}  // namespace

PreparedOperands::PreparedOperands(const LayoutView& layout, Task task, Dtype dtype, const Operands& operands,
                                   SliceShape shape, Parallel& parallel)
    : rows_(layout.header->rows),
      columns_(layout.header->columns),
      task_(task),
      dtype_(dtype),
      shape_(shape),
      given_(operands),
      prepared_(operands),
      parallel_(parallel) {
  const int64_t unit = static_cast<int64_t>(shape.width) * shape.vectors;
  prepared_.h = (given_.h + unit - 1) / unit * unit;
  if (!pads() && shape.vectors == 1) return;
  prepared_.a = prepared_factor(given_.a, rows_, a_);
  prepared_.b_transposed = prepared_factor(given_.b_transposed, columns_, b_);
  if (!pads_gradients()) return;
  const int64_t row_bytes = prepared_.h * accumulator_bytes(dtype);
  prepared_.gradient_a = gradient_a_.allocate(rows_ * row_bytes);
  prepared_.gradient_b_transposed = gradient_b_.allocate(columns_ * row_bytes);
}

void PreparedOperands::finish() {
  if (!pads_gradients()) return;
  return_gradient(prepared_.gradient_a, given_.gradient_a, rows_);
  return_gradient(prepared_.gradient_b_transposed, given_.gradient_b_transposed, columns_);
}

const void* PreparedOperands::prepared_factor(const void* given, int64_t rows, Buffer& buffer) const {
  const int64_t h = given_.h, padded_h = prepared_.h, item = storage_bytes(dtype_);
  const char* from = static_cast<const char*>(given);
  char* to = static_cast<char*>(buffer.allocate(rows * padded_h * item));
  for_slices(parallel_, rows, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const char* source = from + row * h * item;
      char* target = to + row * padded_h * item;
      if (shape_.vectors == 2) {
        alternate(reinterpret_cast<const uint16_t*>(source), h, reinterpret_cast<uint16_t*>(target), padded_h,
                  shape_.width);
      } else {
        std::memcpy(target, source, h * item);
        std::memset(target + h * item, 0, (padded_h - h) * item);
      }
    }
  });
  return to;
}

void PreparedOperands::return_gradient(const void* from, void* to, int64_t rows) const {
  const int64_t item = accumulator_bytes(dtype_), bytes = given_.h * item, padded_bytes = prepared_.h * item;
  for_slices(parallel_, rows, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(static_cast<char*>(to) + row * bytes, static_cast<const char*>(from) + row * padded_bytes,
                  bytes);
    }
  });
}

}  // namespace dmf
