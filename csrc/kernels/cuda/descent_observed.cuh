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

constexpr int group_threads = 8, groups = warp_size / group_threads;

// Entries that a group takes at once: the registers hold 32 packs of gathered rows in float32.
template <int packs>
constexpr int batch = packs < 8 ? 4 : 2;

// A thread's packs of a row.
template <class T, int packs>
struct RowPart {
  static constexpr int numbers = pack_size<T>;
  PackOf<T> pack[packs];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int p = 0; p < packs; ++p) pack[p] = PackOf<T>{};
  }

  // Behind the row's end a thread reads its last pack once more: own rows have zeros there, and no sum is stored.
  __device__ __forceinline__ void load(const T* row, int row_packs) {
    const int thread = threadIdx.x % group_threads;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      pack[p] = load_together<numbers>(row + min(thread + p * group_threads, row_packs - 1) * numbers);
    }
  }

  __device__ __forceinline__ void load_own(const T* row, int row_packs) {
    load(row, row_packs);
    const int thread = threadIdx.x % group_threads;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      if (thread + p * group_threads >= row_packs) pack[p] = PackOf<T>{};
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

  // Adds the parts of the warp's groups and writes their sum to a row; the warp calls it together. Of eight packs
  // a group ends with two, of four with one; fewer are held by several groups, the first of which writes.
  __device__ __forceinline__ void store_sum(T* row, int row_packs) {
    constexpr int half = packs > 1 ? packs / 2 : 1;
    combine<packs>(2 * group_threads);
    combine<half>(group_threads);
    constexpr int kept = packs < groups ? 1 : packs / groups, holders = packs < groups ? groups / packs : 1;
    const int thread = threadIdx.x % group_threads, group = threadIdx.x % warp_size / group_threads;
    if (group % holders != 0) return;
#pragma unroll
    for (int p = 0; p < kept; ++p) {
      const int number = thread + (group / holders * kept + p) * group_threads;
      if (number < row_packs) store_together(row + number * numbers, pack[p]);
    }
  }

 private:
  // Adds `held` packs to those of a partner; of several, each keeps the sums of one half.
  template <int held>
  __device__ __forceinline__ void combine(int partner) {
    constexpr int kept = held > 1 ? held / 2 : 1, other = held > 1 ? kept : 0;
    const bool upper = (threadIdx.x & partner) != 0;
#pragma unroll
    for (int p = 0; p < kept; ++p) {
#pragma unroll
      for (int v = 0; v < numbers; ++v) {
        const T low = pack[p].number[v], high = pack[p + other].number[v];
        pack[p].number[v] = (upper ? high : low) + __shfl_xor_sync(whole_warp, upper ? low : high, partner);
      }
    }
  }
};

// The next entries of a line: the groups take them in turn. Where the last ones are too few for all groups, the
// others take the last entry along, with a coefficient of zero.
template <class T, int packs>
struct Batch {
  static constexpr int size = batch<packs>, entries = size * groups;
  RowPart<T, packs> rows[size];
  int first, end;

  __device__ __forceinline__ int entry(int k) const {
    return first + k * groups + static_cast<int>(threadIdx.x) % warp_size / group_threads;
  }
  // Whether any group has a k-th entry.
  __device__ __forceinline__ bool has(int k) const { return first + k * groups < end; }

  __device__ __forceinline__ Batch(const MatrixView<T>& side, const uint16_t* line_of, int begin, int line_end)
      : first(begin), end(line_end) {
    const int row_packs = side.row_packs();
#pragma unroll
    for (int k = 0; k < size; ++k) {
      rows[k].load(side.row(line_of[min(entry(k), end - 1)]), row_packs);
    }
  }
};

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
  using Entries = Batch<T, packs>;
  const int* start = memory.find<int>(observed.row_start);
  const uint16_t* column = memory.find<uint16_t>(observed.column);
  const uint16_t* column_place = memory.find<uint16_t>(observed.column_place);
  T* coefficients = memory.find<T>(observed.coefficient);
  const int lane = threadIdx.x % warp_size, thread = lane % group_threads;
  double loss = 0;
  for (int line = threadIdx.x / warp_size; line < padded(a.rows); line += blockDim.x / warp_size) {
    RowPart<T, packs> own, sum;
    own.load_own(a.row(line), a.row_packs());
    sum.clear();
    const int end = start[line + 1];
    for (int first = start[line]; first < end; first += Entries::entries) {
      const Entries batch(b_transposed, column, first, end);
      T dots[Entries::size];
#pragma unroll
      for (int k = 0; k < Entries::size; ++k) dots[k] = own.dot(batch.rows[k]);
      const T prediction = transposed_sums<group_threads, Entries::size>(dots, lane);
      const int entry = batch.entry(thread);
      T coefficient = 0;
      if (thread < Entries::size && entry < end) {
        coefficient = targets.coefficient(entry, prediction, loss);
        coefficients[column_place[entry]] = coefficient;
      }
#pragma unroll
      for (int k = 0; k < Entries::size; ++k) {
        const T shown = __shfl_sync(whole_warp, coefficient, k, group_threads);
        sum.add(shown, batch.rows[k]);
      }
    }
    sum.store_sum(gradient.row(line), gradient.row_packs());
  }
  return loss;
}

// dBᵀ from the coefficients of the row phase.
template <int packs, class T>
__device__ __forceinline__ void column_phase(const BlockObserved& observed, const BlockMemory& memory,
                                             const MatrixView<T>& a, const MatrixView<T>& gradient) {
  using Entries = Batch<T, packs>;
  const int* start = memory.find<int>(observed.column_start);
  const uint16_t* row = memory.find<uint16_t>(observed.row);
  const T* coefficients = memory.find<T>(observed.coefficient);
  for (int line = threadIdx.x / warp_size; line < padded(gradient.rows); line += blockDim.x / warp_size) {
    RowPart<T, packs> sum;
    sum.clear();
    const int end = start[line + 1];
    for (int first = start[line]; first < end; first += Entries::entries) {
      const Entries batch(a, row, first, end);
#pragma unroll
      for (int k = 0; k < Entries::size; ++k) {
        const T coefficient = batch.entry(k) < end ? coefficients[batch.entry(k)] : T(0);
        sum.add(coefficient, batch.rows[k]);
      }
    }
    sum.store_sum(gradient.row(line), gradient.row_packs());
  }
}

// Both phases with their barrier between them: dA, dBᵀ, and the sums of the warps' losses.
template <int packs, class T>
__device__ __forceinline__ void line_phases(const BlockObserved& observed, const BlockMemory& memory,
                                            const Targets<T>& targets, const MatrixView<T>& a,
                                            const MatrixView<T>& b_transposed, const MatrixView<T>& gradient_a,
                                            const MatrixView<T>& gradient_b, double* losses) {
  give_sum(row_phase<packs>(observed, memory, targets, a, b_transposed, gradient_a), losses);
  __syncthreads();
  column_phase<packs>(observed, memory, a, gradient_b);
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
