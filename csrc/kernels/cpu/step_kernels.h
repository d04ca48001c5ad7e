// What the instruction sets offer for a step of gradient descent: products, passes over the lines of Ω and the
// updates, for matrices that stay in a core's L2 cache. All run in the calling thread.
#pragma once

#include <cstdint>

#include "../descent/dense_matrix.h"
#include "../descent/observed_lines.h"

namespace dmf {

// One side of Ω: its lines, their entries, and where the coefficient of an entry stands.
struct LineSide {
  const int32_t* start;
  const int32_t* other;  // where the row of the other side begins, in numbers from its matrix's begin
  const int32_t* place;  // null where coefficients stand in the order of this side
  int64_t lines;
};

// What the update of one factor needs besides the numbers themselves.
template <class T>
struct UpdateFactors {
  T weight_decay = 0;
  T step_size = 0;  // lr, or what GroupRMSprop and Adam make of it
  T momentum = 0;
  // Differences from 1 are made in double: in float32 they would lose digits.
  T one_less_beta1 = 1, beta2 = 0, one_less_beta2 = 1;
  T root_correction = 1, eps = 0;  // root_correction: sqrt(1 − beta2^t)
};

template <class T>
struct StepKernels {
  // result = left · right, result = leftᵀ · right and result = sourceᵀ; results are set. The second operand of
  // a product is best in L1, the others in L2.
  void (*multiply)(const DenseMatrix<T>& left, const DenseMatrix<T>& right, const DenseMatrix<T>& result);
  void (*multiply_transposed)(const DenseMatrix<T>& left, const DenseMatrix<T>& right,
                              const DenseMatrix<T>& result);
  void (*transpose)(const DenseMatrix<T>& source, const DenseMatrix<T>& result);

  // dots[k] = row i of `a` times row `other[k]` of `b`, for the entries k of all lines i.
  void (*dots)(const LineSide& side, const DenseMatrix<T>& a, const DenseMatrix<T>& b, T* dots);
  // Replaces dots by coefficients 2·scale·w·(dot − value) and returns Σ w (dot − value)². No weights: ones.
  double (*residuals)(const T* values, const T* weights, int64_t nnz, T twice_scale, T* dots);
  // Row i of `sums` = Σ over the entries of line i of coefficient · row `other` of `rows`.
  void (*gather)(const LineSide& side, const T* coefficients, const DenseMatrix<T>& rows,
                 const DenseMatrix<T>& sums);

  double (*sum_of_squares)(const T* numbers, int64_t count);
  // Σ (g + weight_decay · w)².
  double (*sum_of_decayed_squares)(const T* g, const T* w, int64_t count, T weight_decay);
  // With d = g + weight_decay · w: w ← w − step_size · d; with a velocity v first v ← momentum · v + d, which
  // takes the place of d. Gradients are left as they are.
  void (*descend)(T* w, const T* g, T* v, int64_t count, const UpdateFactors<T>& factors);
  void (*adam)(T* w, const T* g, T* u, T* v, int64_t count, const UpdateFactors<T>& factors);
};

template <class T>
const StepKernels<T>& active_step_kernels();

namespace generic {
extern const StepKernels<float> step_kernels_float32;
extern const StepKernels<double> step_kernels_float64;
}  // namespace generic
namespace avx2 {
extern const StepKernels<float> step_kernels_float32;
extern const StepKernels<double> step_kernels_float64;
}  // namespace avx2
namespace avx512 {
extern const StepKernels<float> step_kernels_float32;
extern const StepKernels<double> step_kernels_float64;
}  // namespace avx512

}  // namespace dmf
