// Kernels of each instruction set for a step of gradient descent: products, passes over the lines of Ω and
// updates, for matrices that stay in the L2 cache of a core. All run in the calling thread.
#pragma once

#include <cstdint>

#include "../descent/dense_matrix.h"
#include "../descent/observed_lines.h"

namespace dmf {

// One side of Ω: its lines, their entries, and the places of the entries' coefficients.
struct LineSide {
  const int32_t* start;
  const int32_t* other;  // offset of the row of the other side in its matrix, in numbers
  const int32_t* place;  // null if coefficients are in the order of this side
  int64_t lines;
};

// Consecutive rows of a parameter as an update sees them. The rule works on θ = x / scale, whose gradient is
// scale · g: with c = UpdateFactors::gradient_factor its direction is d = c · scale · g + weight_decay · θ.
template <class T>
struct ParameterRows {
  T* x;
  const T* g;
  T *u, *v;        // first and second moment; null if the rule has none
  const T* scale;  // of each row; null for ones
  T weight_decay;
  int64_t rows, stride;
  const T* curvature = nullptr;  // of each row, see lbfgs.h; null for ones
  int parameter = 0;             // whose rows they are
  int64_t slice = 0;             // number of these rows among those of all parameters

  int64_t numbers() const { return rows * stride; }
};

template <class T>
struct UpdateFactors {
  T gradient_factor = 1;  // below 1 if gradients are clipped
  T step_size = 0;        // lr, or a multiple of it that the rule chooses
  T momentum = 0;
  // Differences from 1 are computed in double: in float32 they would lose digits.
  T one_less_beta1 = 1, beta2 = 0, one_less_beta2 = 1;
  T root_correction = 1, eps = 0;  // root_correction: sqrt(1 − beta2^t)
};

// Σ d² and Σ (d − d of the step before)².
struct TurnSums {
  double direction = 0, turn = 0;

  TurnSums& operator+=(const TurnSums& other) {
    direction += other.direction;
    turn += other.turn;
    return *this;
  }
};

// Of each column of a parameter, `stride` numbers.
template <class T>
struct ColumnFacts {
  const T* decay;         // at this point
  const T* decay_before;  // where the last step began
  const T* curvature;     // `curvature of the row · curvature of the column + decay` is positive
};

// d is the gradient with its decay, s the last step, y the change of d along it, and H the inverse of the
// preconditioner.
struct SecantSums {
  double step_gradient = 0;  // s · d
  double step_turn = 0;      // s · y
  double turn_turn = 0;      // y · H y
  double turn_gradient = 0;  // y · H d
  double gradient = 0;       // d · H d
  double step = 0;           // s · H⁻¹ s

  SecantSums& operator+=(const SecantSums& other) {
    step_gradient += other.step_gradient;
    step_turn += other.step_turn;
    turn_turn += other.turn_turn;
    turn_gradient += other.turn_gradient;
    gradient += other.gradient;
    step += other.step;
    return *this;
  }
};

// The next step is size · (−H d + turn · H y + step · s).
template <class T>
struct SecantFactors {
  T turn = 0, step = 0, size = 0;
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

  // dots[k] += row_bias[i] + column_bias[column[k]], for the entries k of all lines i.
  void (*add_biases)(const LineSide& side, const int32_t* column, const T* row_bias, const T* column_bias,
                     T* dots);
  // sums[i] = Σ over the entries of line i of coefficient.
  void (*sum_lines)(const LineSide& side, const T* coefficients, T* sums);

  // Σ θ² and Σ d², added up in double.
  double (*sum_of_squares)(const ParameterRows<T>& rows);
  double (*sum_of_direction_squares)(const ParameterRows<T>& rows, T gradient_factor);
  // u ← d.
  TurnSums (*turn)(const ParameterRows<T>& rows, T gradient_factor);
  // x ← x − step_size · scale · u.
  void (*move)(const ParameterRows<T>& rows, T step_size);
  // θ ← θ − step_size · d; with a velocity u, first u ← momentum · u + d, which replaces d. Gradients are not
  // changed.
  void (*descend)(const ParameterRows<T>& rows, const UpdateFactors<T>& factors);
  // Ignores scales.
  void (*adam)(const ParameterRows<T>& rows, const UpdateFactors<T>& factors);

  // For preconditioned L-BFGS (secant_passes.h). Adds Σ θ² and Σ curvature · θ² over the rows to every column.
  void (*column_sums)(const ParameterRows<T>& rows, double* squares, double* curvatures);
  SecantSums (*secant)(const ParameterRows<T>& rows, const ColumnFacts<T>& columns);
  // θ ← θ + u, where u becomes the next step, and v the gradient of the loss at this point.
  void (*advance)(const ParameterRows<T>& rows, const ColumnFacts<T>& columns, const SecantFactors<T>& factors);
  // u ← ratio · u, and θ moves to the new end of the step.
  void (*shorten)(const ParameterRows<T>& rows, T ratio);
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
