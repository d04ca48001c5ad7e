// The matrices of a DescentProgram with their gradients, and the products forward and backward.
//
// A small product is made by the kernels here, in the calling thread. A large one is cut into slices of rows of
// its result, of a fixed size, which threads leave to `blas` one by one: results do not depend on the number of
// threads as long as those of `blas` do not.
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
  Chain(const DescentProgram& program, Blas& blas, Parallel& parallel);

  const DenseMatrix<T>& value(int matrix) const { return values_[matrix]; }
  const DenseMatrix<T>& gradient(int matrix) const { return gradients_[matrix]; }

  // From the factors to all products.
  void forward();
  // From the gradients of A and Bᵀ (or W) to those of the factors.
  void backward();

 private:
  void multiply(const DenseMatrix<T>& left, bool left_transposed, const DenseMatrix<T>& right,
                bool right_transposed, const DenseMatrix<T>& result);
  void multiply_in_blocks(const DenseMatrix<T>& left, bool left_transposed, const DenseMatrix<T>& right,
                          bool right_transposed, const DenseMatrix<T>& result);

  const std::vector<Product> products_;
  Blas& blas_;
  Parallel& parallel_;
  const StepKernels<T>& kernels_;
  std::vector<DenseMatrix<T>> values_, gradients_;
  AlignedNumbers<T> memory_, scratch_;  // scratch: room for the transpose of an operand
};

}  // namespace dmf
