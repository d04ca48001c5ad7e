// The matrices of a DescentProgram with their gradients, and the products forward and backward.
//
// A small product is computed by the kernels here, in the calling thread. A large one is divided into slices of
// rows of a fixed size, which the threads pass to `blas` one by one, so that results do not depend on the
// number of threads if those of `blas` do not.
//
// The rows of W may be divided into blocks of equal size: matrices with these rows are then computed block by
// block, so that the shapes of products do not depend on the number of blocks. Sums over the rows have separate
// arrays on each level of their summation tree (block_tree.h).
#pragma once

#include <vector>

#include "../aligned_numbers.h"
#include "../descent/dense_matrix.h"
#include "../descent/program.h"
#include "../parallel.h"
#include "blas.h"
#include "step_kernels.h"

namespace dmf {

template <class T>
class Chain {
 public:
  // `blas` and `parallel` must live as long as the chain.
  Chain(const DescentProgram& program, Blas& blas, Parallel& parallel, int64_t blocks = 1);

  const DenseMatrix<T>& value(int matrix) const { return values_[matrix]; }
  // The same on all levels, except for the sums over rows.
  const DenseMatrix<T>& gradient(int matrix, int level = 0) const { return gradients_[level][matrix]; }

  // The matrices whose gradients are set as sums over rows: Bᵀ and right operands of products with the rows of
  // W.
  const std::vector<int>& sums_over_rows() const { return sums_over_rows_; }

  // From the factors to all products.
  void forward();
  // From the gradient of a block of A (or W) to those of its operands; sums over its rows are written to
  // `level`.
  void backward_rows(int64_t block, int level);
  // From the sums over all rows to the gradients of all other factors.
  void backward();

 private:
  DenseMatrix<T> block_of(const DenseMatrix<T>& matrix, int64_t block) const {
    const int64_t rows = matrix.rows / blocks_;
    return matrix.rows_from(block * rows, rows);
  }
  void multiply(const DenseMatrix<T>& left, bool left_transposed, const DenseMatrix<T>& right,
                bool right_transposed, const DenseMatrix<T>& result);
  void multiply_in_blocks(const DenseMatrix<T>& left, bool left_transposed, const DenseMatrix<T>& right,
                          bool right_transposed, const DenseMatrix<T>& result);

  const std::vector<Product> products_;
  const std::vector<bool> with_rows_;
  const int64_t blocks_;
  Blas& blas_;
  Parallel& parallel_;
  const StepKernels<T>& kernels_;
  std::vector<int> sums_over_rows_;
  std::vector<DenseMatrix<T>> values_;
  std::vector<std::vector<DenseMatrix<T>>> gradients_;  // of each level
  AlignedNumbers<T> memory_, scratch_;                  // scratch: room for the transpose of an operand
};

}  // namespace dmf
