#include "chain.h"

#include <algorithm>

#include "../block_tree.h"

namespace dmf {
namespace {

// If its three matrices have at most this many bytes, a product is computed by the kernels here, in one thread.
constexpr int64_t small_product_bytes = 1 << 18;
// A block of a product takes at least about this many flops, which hide the overhead of a library call.
constexpr int64_t block_flops = 1 << 23;

template <class T>
int64_t bytes_of(const DenseMatrix<T>& matrix) {
  return matrix.numbers() * static_cast<int64_t>(sizeof(T));
}

template <class T>
BlasOperand operand(const DenseMatrix<T>& matrix, bool transposed = false) {
  return {matrix.data, matrix.rows, matrix.columns, matrix.stride, transposed};
}

// The blocks of a result depend on sizes only, never on the number of threads. Thin blocks would cost more: a
// library packs rows of the left and columns of the right matrix again for each.
struct Grid {
  int64_t row_blocks, column_blocks;

  Grid(int64_t rows, int64_t terms, int64_t columns) {
    column_blocks = columns > 512 ? (columns + 255) / 256 : 1;
    const int64_t block_columns = (columns + column_blocks - 1) / column_blocks;
    const int64_t block_rows =
        std::max(block_flops / (2 * terms * block_columns), std::clamp<int64_t>(rows / 2, 32, 512));
    row_blocks = (rows + block_rows - 1) / block_rows;
  }
};

// `count` columns, starting at `first`.
template <class T>
DenseMatrix<T> columns_of(const DenseMatrix<T>& matrix, int64_t first, int64_t count) {
  return {matrix.data + first, matrix.rows, count, matrix.stride};
}

}  // namespace

template <class T>
Chain<T>::Chain(const DescentProgram& program, Blas& blas, Parallel& parallel, int64_t blocks)
    : products_(program.products),
      with_rows_(program.with_rows()),
      blocks_(blocks),
      blas_(blas),
      parallel_(parallel),
      kernels_(active_step_kernels<T>()),
      gradients_(tree_levels(blocks)) {
  if (!program.forms_product()) sums_over_rows_.push_back(program.b_transposed);
  for (const Product& product : products_) {
    if (with_rows_[product.left]) sums_over_rows_.push_back(product.right);
  }
  const auto numbers_of = [](const Matrix& matrix) { return matrix.rows * row_stride<T>(matrix.columns); };
  int64_t numbers = 0, scratch = 0;
  for (const int matrix : sums_over_rows_) {
    numbers += (tree_levels(blocks) - 1) * numbers_of(program.matrices[matrix]);
  }
  for (const Matrix& matrix : program.matrices) {
    numbers += 2 * numbers_of(matrix);
    scratch = std::max(scratch, matrix.columns * row_stride<T>(matrix.rows));
  }
  memory_ = AlignedNumbers<T>(numbers);
  scratch_ = AlignedNumbers<T>(scratch);
  T* next = memory_.data();
  for (std::vector<DenseMatrix<T>>* matrices : {&values_, &gradients_[0]}) {
    for (const Matrix& matrix : program.matrices) {
      matrices->push_back({next, matrix.rows, matrix.columns, row_stride<T>(matrix.columns)});
      next += matrices->back().numbers();
    }
  }
  for (size_t level = 1; level < gradients_.size(); ++level) {
    gradients_[level] = gradients_[0];
    for (const int matrix : sums_over_rows_) {
      gradients_[level][matrix].data = next;
      next += gradients_[level][matrix].numbers();
    }
  }
}

template <class T>
void Chain<T>::forward() {
  for (const Product& product : products_) {
    const DenseMatrix<T>&left = values_[product.left], &right = values_[product.right],
          &result = values_[product.result];
    if (!with_rows_[product.left]) {
      multiply(left, false, right, false, result);
      continue;
    }
    for (int64_t block = 0; block < blocks_; ++block) {
      multiply(block_of(left, block), false, right, false, block_of(result, block));
    }
  }
}

template <class T>
void Chain<T>::backward_rows(int64_t block, int level) {
  for (auto product = products_.rbegin(); product != products_.rend(); ++product) {
    if (!with_rows_[product->left]) continue;
    const DenseMatrix<T> result = block_of(gradient(product->result), block);
    multiply(result, false, values_[product->right], true, block_of(gradient(product->left), block));
    multiply(block_of(values_[product->left], block), true, result, false, gradient(product->right, level));
  }
}

template <class T>
void Chain<T>::backward() {
  for (auto product = products_.rbegin(); product != products_.rend(); ++product) {
    if (with_rows_[product->left]) continue;
    const DenseMatrix<T>& result = gradient(product->result);
    multiply(result, false, values_[product->right], true, gradient(product->left));
    multiply(values_[product->left], true, result, false, gradient(product->right));
  }
}

template <class T>
void Chain<T>::multiply(const DenseMatrix<T>& left, bool left_transposed, const DenseMatrix<T>& right,
                        bool right_transposed, const DenseMatrix<T>& result) {
  if (bytes_of(left) + bytes_of(right) + bytes_of(result) > small_product_bytes) {
    multiply_in_blocks(left, left_transposed, right, right_transposed, result);
  } else if (left_transposed) {
    kernels_.multiply_transposed(left, right, result);
  } else if (right_transposed) {
    const DenseMatrix<T> transposed{scratch_.data(), right.columns, right.rows, row_stride<T>(right.rows)};
    kernels_.transpose(right, transposed);
    kernels_.multiply(left, transposed, result);
  } else {
    kernels_.multiply(left, right, result);
  }
}

template <class T>
void Chain<T>::multiply_in_blocks(const DenseMatrix<T>& left, bool left_transposed, const DenseMatrix<T>& right,
                                  bool right_transposed, const DenseMatrix<T>& result) {
  constexpr Dtype dtype = sizeof(T) == 8 ? Dtype::float64 : Dtype::float32;
  const Grid grid(result.rows, left_transposed ? left.rows : left.columns, result.columns);
  for_slices(parallel_, grid.row_blocks * grid.column_blocks, [&](int, int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t i = block / grid.column_blocks, j = block % grid.column_blocks;
      const int64_t row = result.rows * i / grid.row_blocks, column = result.columns * j / grid.column_blocks;
      const int64_t rows = result.rows * (i + 1) / grid.row_blocks - row,
                    columns = result.columns * (j + 1) / grid.column_blocks - column;
      const DenseMatrix<T> of_left = left_transposed ? columns_of(left, row, rows) : left.rows_from(row, rows);
      const DenseMatrix<T> of_right =
          right_transposed ? right.rows_from(column, columns) : columns_of(right, column, columns);
      blas_.multiply(dtype, operand(of_left, left_transposed), operand(of_right, right_transposed),
                     operand(columns_of(result.rows_from(row, rows), column, columns)));
    }
  });
}

template class Chain<float>;
template class Chain<double>;

}  // namespace dmf
