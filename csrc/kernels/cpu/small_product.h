// Products of matrices that stay in L2.
//
// A block of the result, R rows × P vectors, stays in registers from the first term of its sums to the last. A
// term loads P vectors of the right matrix and R numbers of the left one for R · P multiply-adds. A strip of P
// vectors of the right matrix is read once for every block of rows, from L1; the left matrix once for every
// strip, from L2. Every number of the result is one sum in the order of the terms, whatever the instruction
// set.
#pragma once

#include "../descent/dense_matrix.h"
#include "panel.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <class T>
class SmallProduct {
 public:
  // The number (row, term) of the left matrix is at row · row_step + term · term_step.
  SmallProduct(const T* left, int64_t row_step, int64_t term_step, int64_t terms, const DenseMatrix<T>& right,
               const DenseMatrix<T>& result)
      : left_(left),
        row_step_(row_step),
        term_step_(term_step),
        terms_(terms),
        right_(right),
        result_(result) {}

  void run() const {
    const int64_t vectors = (result_.columns + V::width - 1) / V::width;
    const int64_t strips = (vectors + widest_strip - 1) / widest_strip;
    for (int64_t strip = 0; strip < strips; ++strip) {
      const int64_t begin = vectors * strip / strips, end = vectors * (strip + 1) / strips;
      strip_of<widest_strip>(static_cast<int>(end - begin), begin * V::width);
    }
  }

 private:
  using V = Vector<T>;
  using Register = typename V::type;

  static constexpr int widest_strip = vector_registers == 32 ? 4 : 3;
  // Rows of a block: as many as leave enough registers for the terms.
  template <int P>
  static constexpr int most_rows = (vector_registers - P - 1) / P < 12 ? (vector_registers - P - 1) / P : 12;

  template <int P>
  void strip_of(int vectors, int64_t column) const {
    if constexpr (P > 0) {
      if (vectors < P) return strip_of<P - 1>(vectors, column);
      // Blocks of about equal height: a last block of a single row would take as long as one of several.
      constexpr int most = most_rows<P>;
      const int64_t blocks = (result_.rows + most - 1) / most;
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t begin = result_.rows * block / blocks, end = result_.rows * (block + 1) / blocks;
        block_of<most, P>(static_cast<int>(end - begin), begin, column);
      }
    }
  }

  template <int R, int P>
  void block_of(int rows, int64_t row, int64_t column) const {
    if constexpr (R > 0) {
      if (rows < R) return block_of<R - 1, P>(rows, row, column);
      block<R, P>(row, column);
    }
  }

  template <int R, int P>
  DMF_INLINE void block(int64_t row, int64_t column) const {
    const T *left = left_ + row * row_step_, *right = right_.data + column;
    Register sum[R][P];
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) sum[r][p] = V::zero();
    }
    for (int64_t term = 0; term < terms_; ++term) {
      Register x[P];
      Panel<T, P>::load(right, x);
      for (int r = 0; r < R; ++r) {
        const Register factor = V::broadcast(left[r * row_step_]);
        for (int p = 0; p < P; ++p) sum[r][p] = V::multiply_add(factor, x[p], sum[r][p]);
      }
      left += term_step_;
      right += right_.stride;
    }
    for (int r = 0; r < R; ++r) Panel<T, P>::store(result_.row(row + r) + column, sum[r]);
  }

  const T* left_;
  const int64_t row_step_, term_step_, terms_;
  const DenseMatrix<T>&right_, &result_;
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
