// Loss and gradients at Ω by one block, from A and Bᵀ or from the formed matrix.
//
// A warp takes a line. Its four groups of eight threads take entries of the line in turn, up to four each at a
// time, and thread t of a group holds packs t, t + 8, … of 16 bytes of the rows. In the row phase a gathered
// row of Bᵀ stays in registers from the dot product to dA; the dot products of a group's entries are one
// transposed sum, and one thread for each computes the coefficient and writes it where the column phase reads
// it. At the line's end the four groups' sums are added, so that each holds a quarter of the line's gradient.
//
// By count, at h 100 in float32 and with everything in shared memory, 16 entries take 297 instructions of a
// warp in the row phase and 162 in the column phase, and a line 95 in each: with 20 entries per line, 9 to 10
// cycles of the four schedulers per entry. The indices of a batch are loaded together, then its rows and
// targets, so that it waits for shared memory twice rather than for every entry. Shared memory is busy nearly
// as long: in each phase a row takes 4 wavefronts, and indices, coefficients and shuffles take 1.
#pragma once

#include <type_traits>

#include "descent_matrix.cuh"

namespace dmf::cuda {

constexpr int group_threads = 8, groups = warp_size / group_threads;

// Entries that a group takes at once: the registers hold 32 packs of gathered rows in float32.
template <int packs>
constexpr int batch_size = packs < 8 ? 4 : 2;

// A thread's packs of a row.
template <class T, int packs>
struct RowPart {
  static constexpr int numbers = pack_size<T>;
  PackOf<T> pack[packs] = {};

  // Packs past the end of the row stay zero.
  __device__ __forceinline__ void load(const T* row, int row_packs) {
    const int thread = threadIdx.x % group_threads;
    const T* own = row + thread * numbers;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      if (thread + p * group_threads < row_packs)
        pack[p] = load_together<numbers>(own + p * group_threads * numbers);
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

  // Adds the parts of the warp's groups and writes their sum to a row; the warp calls it together. Of eight
  // packs a group ends up with two, of four with one; if there are fewer, several groups hold the same one, and
  // the first of them writes it.
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
  // Adds `held` packs to those of a partner; if there are several, each keeps the sums of one half.
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

// Some entries of a line, and the rows that they gather: the groups take entries in turn. If too few are left
// for all groups, the others repeat the last entry, with a coefficient of zero.
template <class T, int packs>
struct Batch {
  static constexpr int size = batch_size<packs>, entries = size * groups;
  RowPart<T, packs> rows[size];
  int first, end;

  __device__ __forceinline__ int entry(int k) const {
    return first + k * groups + static_cast<int>(threadIdx.x) % warp_size / group_threads;
  }
  // Whether any group has a k-th entry.
  __device__ __forceinline__ bool has(int k) const { return first + k * groups < end; }

  __device__ __forceinline__ void gather(const MatrixView<T>& side, const uint16_t* line_of, int begin,
                                         int line_end) {
    first = begin;
    end = line_end;
    const int row_packs = side.row_packs();
    const T* row[size];
#pragma unroll
    for (int k = 0; k < size; ++k) row[k] = side.row(line_of[min(entry(k), end - 1)]);
#pragma unroll
    for (int k = 0; k < size; ++k) rows[k].load(row[k], has(k) ? row_packs : 0);
  }
};

// What entries are compared with, and what becomes of their residuals.
template <class T>
struct Targets {
  const T *value, *weight;  // weight is null for none
  T twice_scale;

  __device__ __forceinline__ T weight_of(int entry) const { return weight ? weight[entry] : T(1); }

  // Returns the coefficient of an entry and adds its loss.
  __device__ __forceinline__ T coefficient(T residual, T weight_of_it, double& loss) const {
    loss += static_cast<double>(weight_of_it) * static_cast<double>(residual) * static_cast<double>(residual);
    return twice_scale * weight_of_it * residual;
  }
};

// dA, and the coefficients in column order. Returns the thread's part of the loss.
template <int packs, bool all_shared, class T>
__device__ __forceinline__ double row_phase(const BlockObserved& observed, const BlockMemory& memory,
                                            const Targets<T>& targets, const MatrixView<T>& a,
                                            const MatrixView<T>& b_transposed, const MatrixView<T>& gradient) {
  using Entries = Batch<T, packs>;
  const int* start = memory.find<int, all_shared>(observed.row_start);
  const uint16_t* column = memory.find<uint16_t, all_shared>(observed.column);
  const uint16_t* column_place = memory.find<uint16_t, all_shared>(observed.column_place);
  T* coefficients = memory.find<T, all_shared>(observed.coefficient);
  const int lane = threadIdx.x % warp_size, thread = lane % group_threads;
  Entries batch;
  RowPart<T, packs> own;
  double loss = 0;
  for (int line = threadIdx.x / warp_size; line < padded(a.rows); line += blockDim.x / warp_size) {
    RowPart<T, packs> sum;
    own.load(a.row(line), a.row_packs());
    const int end = start[line + 1];
    for (int first = start[line]; first < end; first += Entries::entries) {
      batch.gather(b_transposed, column, first, end);
      const int entry = batch.entry(thread);
      const int nearest = min(entry, end - 1), place = column_place[nearest];
      const T value = targets.value[nearest], weight = targets.weight_of(nearest);
      T dots[Entries::size];
#pragma unroll
      for (int k = 0; k < Entries::size; ++k) dots[k] = batch.has(k) ? own.dot(batch.rows[k]) : T(0);
      const T prediction = transposed_sums<group_threads, Entries::size>(dots, lane);
      T coefficient = 0;
      if (thread < Entries::size && entry < end) {
        coefficient = targets.coefficient(prediction - value, weight, loss);
        coefficients[place] = coefficient;
      }
#pragma unroll
      for (int k = 0; k < Entries::size; ++k) {
        const T shown = __shfl_sync(whole_warp, coefficient, k, group_threads);
        if (batch.has(k)) sum.add(shown, batch.rows[k]);
      }
    }
    sum.store_sum(gradient.row(line), gradient.row_packs());
  }
  return loss;
}

// dBᵀ from the coefficients of the row phase.
template <int packs, bool all_shared, class T>
__device__ __forceinline__ void column_phase(const BlockObserved& observed, const BlockMemory& memory,
                                             const MatrixView<T>& a, const MatrixView<T>& gradient) {
  using Entries = Batch<T, packs>;
  const int* start = memory.find<int, all_shared>(observed.column_start);
  const uint16_t* row = memory.find<uint16_t, all_shared>(observed.row);
  const T* coefficients = memory.find<T, all_shared>(observed.coefficient);
  Entries batch;
  for (int line = threadIdx.x / warp_size; line < padded(gradient.rows); line += blockDim.x / warp_size) {
    RowPart<T, packs> sum;
    const int end = start[line + 1];
    for (int first = start[line]; first < end; first += Entries::entries) {
      batch.gather(a, row, first, end);
#pragma unroll
      for (int k = 0; k < Entries::size; ++k) {
        const T coefficient = batch.entry(k) < end ? coefficients[batch.entry(k)] : T(0);
        if (batch.has(k)) sum.add(coefficient, batch.rows[k]);
      }
    }
    sum.store_sum(gradient.row(line), gradient.row_packs());
  }
}

// Whether all of Ω that both phases read, except values and weights, is in shared memory.
__device__ __forceinline__ bool is_shared(const BlockObserved& observed) {
  return observed.row_start.place.shared && observed.column.place.shared &&
         observed.column_place.place.shared && observed.coefficient.place.shared &&
         observed.column_start.place.shared && observed.row.place.shared;
}

// Both phases with a barrier between them: dA, dBᵀ, and the sums of the warps' losses.
template <int packs, class T>
__device__ __forceinline__ void line_phases(const BlockObserved& observed, const BlockMemory& memory,
                                            const Targets<T>& targets, const MatrixView<T>& a,
                                            const MatrixView<T>& b_transposed, const MatrixView<T>& gradient_a,
                                            const MatrixView<T>& gradient_b, double* losses) {
  const auto run = [&](auto all_shared, const MatrixView<T>& left, const MatrixView<T>& right) {
    constexpr bool shared = decltype(all_shared)::value;
    give_sum(row_phase<packs, shared>(observed, memory, targets, left, right, gradient_a), losses);
    __syncthreads();
    column_phase<packs, shared>(observed, memory, left, gradient_b);
  };
  if (a.shared && b_transposed.shared && is_shared(observed)) {
    run(std::true_type{}, a.in_shared(), b_transposed.in_shared());
  } else {
    run(std::false_type{}, a, b_transposed);
  }
}

// The observed entries of the gradient of a formed matrix. Returns the thread's part of the loss.
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
      const T residual = formed.row(line)[place] - targets.value[entry];
      gradient.row(line)[place] = targets.coefficient(residual, targets.weight_of(entry), loss);
    }
  }
  return loss;
}

}  // namespace dmf::cuda
