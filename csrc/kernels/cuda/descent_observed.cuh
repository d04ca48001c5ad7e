// Loss and gradients at Ω by one block, from A and Bᵀ or from the matrix that was formed.
//
// A warp takes a line, its four groups of eight threads take entries of the line in turn, four at a time:
// thread t of a group holds packs t, t + 8, … of the rows of 16 bytes. In the row phase a gathered row of Bᵀ
// stays in registers from the dot product to dA; the dot products of a group's four entries are one transposed
// sum, and four threads each make the coefficient of one entry, which goes to where the column phase reads it.
// At the line's end the four groups' sums are added, so that each holds a quarter of the line's gradient.
//
// By count, at h 100 in float32, an entry's row is 4 wavefronts of shared memory, its indices, value,
// coefficient and part of the shuffles about 1.5 in the row phase and 1 in the column phase: 10 to 11 cycles an
// entry and step.
#pragma once

#include "descent_matrix.cuh"
#include "warp.cuh"

namespace dmf::cuda {

constexpr int group_threads = 8, groups = warp_size / group_threads, batch = 4;

// A thread's packs of a row.
template <class T, int packs>
struct RowPart {
  static constexpr int numbers = pack_size<T>;
  PackOf<T> pack[packs];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int p = 0; p < packs; ++p) pack[p] = PackOf<T>{};
  }

  __device__ __forceinline__ void load(const T* row, int row_packs) {
    const int thread = threadIdx.x % group_threads;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int number = thread + p * group_threads;
      pack[p] = number < row_packs ? load_together<numbers>(row + number * numbers) : PackOf<T>{};
    }
  }

  __device__ __forceinline__ T dot(const RowPart& other) const {
    T sums[numbers] = {};
#pragma unroll
    for (int p = 0; p < packs; ++p) {
#pragma unroll
      for (int v = 0; v < numbers; ++v) sums[v] += pack[p].number[v] * other.pack[p].number[v];
    }
#pragma unroll
    for (int v = 1; v < numbers; ++v) sums[0] += sums[v];
    return sums[0];
  }

  __device__ __forceinline__ void add(T coefficient, const RowPart& other) {
#pragma unroll
    for (int p = 0; p < packs; ++p) {
#pragma unroll
      for (int v = 0; v < numbers; ++v) pack[p].number[v] += coefficient * other.pack[p].number[v];
    }
  }

  // Adds the parts of the warp's groups and writes their sum to a row; the warp calls it together.
  __device__ __forceinline__ void store_sum(T* row, int row_packs) {
    static_assert(packs % groups == 0);
    give_half<packs / 2>(2 * group_threads);
    give_half<packs / 4>(group_threads);
    const int thread = threadIdx.x % group_threads, group = threadIdx.x % warp_size / group_threads;
#pragma unroll
    for (int p = 0; p < packs / groups; ++p) {
      const int number = thread + (group * (packs / groups) + p) * group_threads;
      if (number < row_packs) store_together(row + number * numbers, pack[p]);
    }
  }

 private:
  // Of twice `half` packs, keeps the sum over both partners of the half that falls to this thread.
  template <int half>
  __device__ __forceinline__ void give_half(int partner) {
    const bool upper = (threadIdx.x & partner) != 0;
#pragma unroll
    for (int p = 0; p < half; ++p) {
#pragma unroll
      for (int v = 0; v < numbers; ++v) {
        const T kept = upper ? pack[p + half].number[v] : pack[p].number[v];
        const T given = upper ? pack[p].number[v] : pack[p + half].number[v];
        pack[p].number[v] = kept + __shfl_xor_sync(whole_warp, given, partner);
      }
    }
  }
};

// Loads the rows of a batch of entries from `first` on; the groups take entries in turn.
template <class T, int packs>
__device__ __forceinline__ void gather(const MatrixView<T>& side, const uint16_t* line_of, int first, int end,
                                       RowPart<T, packs> (&rows)[batch]) {
  const int group = threadIdx.x % warp_size / group_threads;
#pragma unroll
  for (int k = 0; k < batch; ++k) {
    const int entry = first + k * groups + group;
    rows[k].load(side.row(entry < end ? line_of[entry] : 0), entry < end ? side.row_packs() : 0);
  }
}

// What entries are compared with, and what becomes of their residuals.
template <class T>
struct Targets {
  const T *value, *weight;  // weight is null for none
  T twice_scale;

  // The coefficient of an entry that was predicted; adds its loss.
  __device__ __forceinline__ T coefficient(int entry, T prediction, double& loss) const {
    const T residual = prediction - value[entry], weight_of = weight ? weight[entry] : T(1);
    loss += static_cast<double>(weight_of) * static_cast<double>(residual) * static_cast<double>(residual);
    return twice_scale * weight_of * residual;
  }
};

// dA, and the coefficients in column order. Returns the thread's part of the loss.
template <int packs, class T>
__device__ __forceinline__ double row_phase(const BlockObserved& observed, const BlockMemory& memory,
                                            const Targets<T>& targets, const MatrixView<T>& a,
                                            const MatrixView<T>& b_transposed, const MatrixView<T>& gradient) {
  const int* start = memory.find<int>(observed.row_start);
  const uint16_t* column = memory.find<uint16_t>(observed.column);
  const uint16_t* column_place = memory.find<uint16_t>(observed.column_place);
  T* coefficients = memory.find<T>(observed.coefficient);
  const int lane = threadIdx.x % warp_size, group = lane / group_threads, thread = lane % group_threads;
  double loss = 0;
  for (int line = threadIdx.x / warp_size; line < padded(a.rows); line += blockDim.x / warp_size) {
    RowPart<T, packs> own, sum;
    own.load(a.row(line), a.row_packs());
    sum.clear();
    const int end = start[line + 1];
    for (int first = start[line]; first < end; first += batch * groups) {
      RowPart<T, packs> rows[batch];
      gather(b_transposed, column, first, end, rows);
      T dots[batch];
#pragma unroll
      for (int k = 0; k < batch; ++k) dots[k] = own.dot(rows[k]);
      const T prediction = transposed_sums<group_threads, batch>(dots, lane);
      const int entry = first + thread * groups + group;
      T coefficient = 0;
      if (thread < batch && entry < end) {
        coefficient = targets.coefficient(entry, prediction, loss);
        coefficients[column_place[entry]] = coefficient;
      }
#pragma unroll
      for (int k = 0; k < batch; ++k) sum.add(__shfl_sync(whole_warp, coefficient, k, group_threads), rows[k]);
    }
    sum.store_sum(gradient.row(line), gradient.row_packs());
  }
  return loss;
}

// dBᵀ from the coefficients of the row phase.
template <int packs, class T>
__device__ __forceinline__ void column_phase(const BlockObserved& observed, const BlockMemory& memory,
                                             const MatrixView<T>& a, const MatrixView<T>& gradient) {
  const int* start = memory.find<int>(observed.column_start);
  const uint16_t* row = memory.find<uint16_t>(observed.row);
  const T* coefficients = memory.find<T>(observed.coefficient);
  const int group = threadIdx.x % warp_size / group_threads;
  for (int line = threadIdx.x / warp_size; line < padded(gradient.rows); line += blockDim.x / warp_size) {
    RowPart<T, packs> sum;
    sum.clear();
    const int end = start[line + 1];
    for (int first = start[line]; first < end; first += batch * groups) {
      RowPart<T, packs> rows[batch];
      gather(a, row, first, end, rows);
#pragma unroll
      for (int k = 0; k < batch; ++k) {
        const int entry = first + k * groups + group;
        sum.add(entry < end ? coefficients[entry] : T(0), rows[k]);
      }
    }
    sum.store_sum(gradient.row(line), gradient.row_packs());
  }
}

// The observed entries of the gradient of a matrix that was formed. Returns the thread's part of the loss.
template <class T>
__device__ __forceinline__ double formed_phase(const BlockObserved& observed, const BlockMemory& memory,
                                               const Targets<T>& targets, const MatrixView<T>& formed,
                                               const MatrixView<T>& gradient) {
  const int* start = memory.find<int>(observed.row_start);
  const uint16_t* column = memory.find<uint16_t>(observed.column);
  double loss = 0;
  for (int line = threadIdx.x / warp_size; line < formed.rows; line += blockDim.x / warp_size) {
    for (int entry = start[line] + threadIdx.x % warp_size; entry < start[line + 1]; entry += warp_size) {
      const int place = column[entry];
      gradient.row(line)[place] = targets.coefficient(entry, formed.row(line)[place], loss);
    }
  }
  return loss;
}

}  // namespace dmf::cuda
