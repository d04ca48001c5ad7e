// CUDA layouts on the CPU, for tests of the CUDA kernels. Include the shim first.
#pragma once

#include "simt_shim.h"

#include <vector>

#include "../kernels/cuda/layout_build.cuh"
#include "patterns.h"
#include "problems.h"

namespace dmf::test {

inline std::vector<unsigned char> garbage_bytes(int64_t bytes) {
  std::vector<unsigned char> garbage(static_cast<size_t>(bytes));
  simt::fill_with_garbage(garbage.data(), garbage.size());
  return garbage;
}

// Arrays of exactly the requested length, full of garbage.
class ArrayWorkspace final : public cuda::Workspace {
 protected:
  void* take_some(int64_t bytes) override {
    arrays_.push_back(garbage_bytes(bytes));
    return arrays_.back().data();
  }

 private:
  std::vector<std::vector<unsigned char>> arrays_;
};

// Small cuts, so that small patterns have blocks, wide indices and split lines.
constexpr cuda::Cuts blocks_of_64{64, 1, 8, 8, 1};
constexpr cuda::Cuts wide_indices{64, 1000000, 8, 8, 1};
constexpr cuda::Cuts long_segments{64, 1, 32, 32, 1};

// A pattern's layout in memory of its own.
template <class Index = int64_t>
class LayoutOf {
 public:
  explicit LayoutOf(const Pattern& pattern, const cuda::Cuts& cuts = {})
      : shape_(pattern.rows, pattern.columns, pattern.nnz(), cuts), buffer_(garbage_bytes(shape_.bytes)) {
    const std::vector<Index> rows(pattern.row_of.begin(), pattern.row_of.end());
    const std::vector<Index> columns(pattern.column_of.begin(), pattern.column_of.end());
    ArrayWorkspace workspace;
    cuda::LayoutBuild(shape_, buffer_.data(), workspace, nullptr).run(rows.data(), columns.data());
  }

  cuda::DeviceLayout layout() const { return {shape_, buffer_.data()}; }
  const std::vector<unsigned char>& buffer() const { return buffer_; }

 private:
  cuda::DeviceLayoutShape shape_;
  std::vector<unsigned char> buffer_;
};

inline Numbers in_row_order(const cuda::DeviceLayout& layout, const Numbers& numbers) {
  Numbers ordered(numbers.size());
  for (size_t entry = 0; entry < numbers.size(); ++entry) ordered[entry] = numbers[layout.position[entry]];
  return ordered;
}

inline std::vector<Pattern> small_patterns() {
  return {{5, 7, {}, {}},
          {0, 0, {}, {}},
          {0, 3, {}, {}},
          {1, 1, {0}, {0}},
          random_pattern(40, 50, 250, 1, 1),
          random_pattern(90, 130, 600, 3, 2),
          random_pattern(3, 200, 300, 2, 3),
          random_pattern(200, 3, 300, 2, 4),
          full_pattern(33, 70)};
}

}  // namespace dmf::test
