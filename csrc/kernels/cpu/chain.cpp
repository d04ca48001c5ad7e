#include "chain.h"

#include <algorithm>

namespace dmf {
namespace {

// Up to so many bytes of its three matrices a product is made by the kernels here, in one thread.
constexpr int64_t small_product_bytes = 1 << 18;

template <class T>
int64_t bytes_of(const DenseMatrix<T>& matrix) {
  return matrix.numbers() * static_cast<int64_t>(sizeof(T));
}

template <class T>
BlasOperand operand(const DenseMatrix<T>& matrix, bool transposed = false) {
  return {matrix.data, matrix.rows, matrix.columns, matrix.stride, transposed};
}

}  // namespace

template <class T>
Chain<T>::Chain(const DescentProgram& program, Blas& blas)
    : products_(program.products), blas_(blas), kernels_(active_step_kernels<T>()) {
  int64_t numbers = 0, scratch = 0;
  for (const Matrix& matrix : program.matrices) {
    numbers += 2 * matrix.rows * row_stride<T>(matrix.columns);
    scratch = std::max(scratch, matrix.columns * row_stride<T>(matrix.rows));
  }
  memory_ = AlignedNumbers<T>(numbers);
  scratch_ = AlignedNumbers<T>(scratch);
  T* next = memory_.data();
  for (std::vector<DenseMatrix<T>>* matrices : {&values_, &gradients_}) {
    for (const Matrix& matrix : program.matrices) {
      matrices->push_back({next, matrix.rows, matrix.columns, row_stride<T>(matrix.columns)});
      next += matrices->back().numbers();
    }
  }
}

template <class T>
void Chain<T>::forward() {
  for (const Product& product : products_) {
    multiply(values_[product.left], false, values_[product.right], false, values_[product.result]);
  }
}

template <class T>
void Chain<T>::backward() {
  for (auto product = products_.rbegin(); product != products_.rend(); ++product) {
    const DenseMatrix<T>& gradient = gradients_[product->result];
    multiply(gradient, false, values_[product->right], true, gradients_[product->left]);
    multiply(values_[product->left], true, gradient, false, gradients_[product->right]);
  }
}

template <class T>
void Chain<T>::multiply(const DenseMatrix<T>& left, bool left_transposed, const DenseMatrix<T>& right,
                        bool right_transposed, const DenseMatrix<T>& result) {
  if (bytes_of(left) + bytes_of(right) + bytes_of(result) > small_product_bytes) {
    constexpr Dtype dtype = sizeof(T) == 8 ? Dtype::float64 : Dtype::float32;
    blas_.multiply(dtype, operand(left, left_transposed), operand(right, right_transposed), operand(result));
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

template class Chain<float>;
template class Chain<double>;

}  // namespace dmf
