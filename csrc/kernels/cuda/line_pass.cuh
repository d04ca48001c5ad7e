// One pass over one order of Ω: every warp owns a segment of a line (device_layout.h), holds the line's row of
// the own side (A in the row pass, Bᵀ in the column pass) in registers and gathers rows of the other side.
//
//   dots       the products A[i]·B[:,j], or the loss, or the coefficients 2·scale·w·(A[i]·B[:,j] − b)
//   fused      those dots, the loss and the gradient of the own side, from one gather
//   given      the gradient of the own side for given coefficients
//
// A row is `packs` packs of 16 bytes. `lanes` threads read it, one pack each, `chunks` times, so 32 / lanes
// entries are read at once. In a **step** every thread loads `depth` rows, loads_in_flight packs, before it
// uses the first. Thread t of a group owns the entries of a batch of 32 whose number is (t, group): it loads
// the entry's index and place a batch ahead and its target with the gathers, receives its dot product from a
// transposed sum, and alone computes its coefficient and loss.
//
// No load has a branch: packs past the end of a row, and rows of entries that do not exist, are read from 16
// bytes of zeros, so that infinities elsewhere do no harm.
//
// An entry of the fused pass costs 4h flops, h numbers gathered from L2 or L1, and 2 bytes of index and its
// value, streamed; in the column pass also 4 bytes of place, and its value is a random read. At h 64 in float32
// it takes 10 instructions of a warp, or 5 in the given pass (sm_90, whole steps). No atomics: a line's
// gradient, or a slot of partial sums, is written by one warp, and all sums have a fixed order.
#pragma once

#include <type_traits>

#include "device_layout.h"
#include "numbers.cuh"
#include "tuning.h"
#include "warp.cuh"

namespace dmf::cuda {

constexpr int pass_warps = pass_threads / warp_size;

enum class Pass { dots, fused, given };

// Rows have `stride` numbers, whole packs, with zeros past the first h. A pass reads `width` of them and writes
// as many columns of the gradients as exist.
struct LinePass {
  LineOrder order;
  const uint32_t* position;
  const void* own;
  const void* gathered;
  int64_t stride, width;
  uint32_t row_bytes;
  const void* values;  // row order, as are weights and row_coefficients
  const void* weights;
  const void* coefficients;   // given: in the caller's order; null if row_coefficients are read
  void* row_coefficients;     // dots and fused: written if not null; given: read
  void* products;             // dots: written in the caller's order, if not null
  void* gradient;             // (lines, h)
  void* partials;             // (slots, h)
  int64_t h, gradient_width;  // the row length of the gradient, and how many of its columns are written
  double* losses;             // one per thread block; null if not wanted
  double twice_scale;
};

// How a warp reads rows.
template <class Storage, int lane_count, int chunk_count>
struct RowReader {
  static constexpr int lanes = lane_count, chunks = chunk_count;
  static constexpr int groups = warp_size / lanes;
  static constexpr int depth = loads_in_flight / chunks < lanes ? loads_in_flight / chunks : lanes;
  static constexpr int numbers = pack_size<Storage>;
  static constexpr int panel = lanes * chunks * numbers;  // numbers held at once
  static constexpr int resident_blocks = (numbers == 8 ? resident_warps * 3 / 4 : resident_warps) / pass_warps;
};

static __device__ const uint4 zero_pack = {0, 0, 0, 0};

__device__ __forceinline__ const void* at_or_zeros(const void* at, bool inside) {
  return inside ? at : &zero_pack;
}

// One warp's way through a segment.
template <class Reader, class Storage, Pass pass>
class SegmentWalk {
  using T = accumulator_t<Storage>;
  static constexpr int lanes = Reader::lanes, groups = Reader::groups, chunks = Reader::chunks;
  static constexpr int depth = Reader::depth, numbers = Reader::numbers;

  // `depth` rows of the gathered side, in flight at once; zeros for entries that do not exist.
  using Rows = uint4[depth][chunks];

  // What the layout holds about the own entry of a batch, as loaded: only a use waits for it.
  struct Place {
    uint32_t index, in_row_order;
  };

 public:
  __device__ __forceinline__ SegmentWalk(const LinePass& p, const Segment& segment, int lane)
      : p_(p), segment_(segment), in_group_(lane % lanes), group_(lane / lanes) {}

  // Returns this thread's part of the loss, that of its own entries.
  __device__ __forceinline__ double run() {
    double loss = 0;
    if (segment_.count > 0) {
      set_panel(0);
      Place next = place_of(0);
      for (int batch = 0; batch < segment_.count; batch += warp_size) {
        left_ = segment_.count - batch;
        take_place(next, batch);
        next = place_of(batch + warp_size);  // a batch ahead, so that gathers need not wait for it
        take_batch();
        if (pass != Pass::given && exists()) loss += take_result();
      }
    }
    if constexpr (pass != Pass::dots) write_gradient();
    return loss;
  }

 private:
  // Neighboring threads of different groups own neighboring entries.
  __device__ __forceinline__ int own_number() const { return in_group_ * groups + group_; }
  __device__ __forceinline__ bool exists() const { return own_number() < left_; }

  // The own entry's place in this order; past the end of the segment, that of the last entry.
  __device__ __forceinline__ int64_t in_order(int batch) const {
    return segment_.start + min(batch + own_number(), segment_.count - 1);
  }

  __device__ __forceinline__ Place place_of(int batch) const {
    const int64_t entry = in_order(batch);
    return {index_at(p_.order.index, p_.order.wide, entry),
            load_once(p_.order.place == nullptr ? &zero_pack.x : p_.order.place + entry)};
  }

  // Loads the rest of the own entry: target and weight, or the coefficient.
  __device__ __forceinline__ void take_place(const Place& place, int batch) {
    gathered_line_ = segment_.first_line + place.index;
    row_entry_ = p_.order.place == nullptr ? static_cast<uint32_t>(in_order(batch)) : place.in_row_order;
    if constexpr (pass == Pass::given) {
      given_ = p_.coefficients == nullptr ? static_cast<const T*>(p_.row_coefficients)[row_entry_]
                                          : static_cast<const T*>(p_.coefficients)[p_.position[row_entry_]];
    } else {
      if (p_.values != nullptr) value_ = static_cast<const Storage*>(p_.values)[row_entry_];
      if (p_.weights != nullptr) weight_ = static_cast<const Storage*>(p_.weights)[row_entry_];
    }
  }

  // Rows wider than what is held at once take several turns, in dots only.
  __device__ __forceinline__ void take_batch() {
    int64_t panel = 0;
    dot_ = 0;
    do {
      if (pass == Pass::dots && p_.width > Reader::panel) set_panel(panel);
#pragma unroll 1
      for (int step = 0; step < lanes && step * groups < left_; step += depth) {
        Rows rows;
        load_rows(step, rows);
        if constexpr (pass != Pass::given) add_dots(step, rows);
        if constexpr (pass != Pass::dots) add_gradient(step, rows);
      }
      panel += Reader::panel;
    } while (pass == Pass::dots && panel < p_.width);
  }

  // Loads this thread's packs of the own row, and finds those of the gathered rows.
  __device__ __forceinline__ void set_panel(int64_t panel) {
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const int64_t first = panel + (c * lanes + in_group_) * numbers;
      const bool inside = first < p_.width;
      const Storage* own = static_cast<const Storage*>(p_.own) + segment_.line * p_.stride + first;
      const Storage* gathered = static_cast<const Storage*>(p_.gathered) + first;
      if constexpr (pass != Pass::given) own_[c] = Pack<Storage>(load_16_bytes(at_or_zeros(own, inside)));
      gathered_[c] = at_or_zeros(gathered, inside);
      row_bytes_[c] = inside ? p_.row_bytes : 0;
    }
  }

  // Moves the values of the owners of a step's `depth` entries to threads 0, 1, … of every `depth` neighbors.
  template <class Number>
  __device__ __forceinline__ Number of_step(Number own, int step) const {
    return lanes == depth ? own : __shfl_sync(whole_warp, own, step + in_group_ % depth, lanes);
  }

  // Nothing is between the loads, so that all are in flight at once.
  __device__ __forceinline__ void load_rows(int step, Rows& rows) const {
    const uint32_t lines = of_step(gathered_line_, step);
    uint32_t line[depth];
#pragma unroll
    for (int u = 0; u < depth; ++u) line[u] = __shfl_sync(whole_warp, lines, u, depth);
    const int left = left_ - step * groups;
    const auto load = [&](auto all_exist) {
#pragma unroll
      for (int u = 0; u < depth; ++u) {
        const bool exists = decltype(all_exist)::value || u * groups + group_ < left;
#pragma unroll
        for (int c = 0; c < chunks; ++c) {
          rows[u][c] = load_16_bytes(at_or_zeros(row_at(gathered_[c], line[u], row_bytes_[c]), exists));
        }
      }
    };
    if (left >= depth * groups) {
      load(std::true_type{});
    } else {
      load(std::false_type{});
    }
  }

  // Every thread receives the dot product of its own entry in turn.
  __device__ __forceinline__ void add_dots(int step, const Rows& rows) {
    T sums[depth];
#pragma unroll
    for (int u = 0; u < depth; ++u) {
      sums[u] = 0;
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        const Pack<Storage> other(rows[u][c]);
#pragma unroll
        for (int v = 0; v < numbers; ++v) sums[u] += own_[c].number[v] * other.number[v];
      }
    }
    const T sum = transposed_sums<lanes>(sums, in_group_);
    if (in_group_ - in_group_ % depth == step) dot_ += sum;
  }

  __device__ __forceinline__ void add_gradient(int step, const Rows& rows) {
    const T coefficients = of_step(coefficient(), step);
#pragma unroll
    for (int u = 0; u < depth; ++u) {
      const T coefficient = __shfl_sync(whole_warp, coefficients, u, depth);
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        const Pack<Storage> other(rows[u][c]);
#pragma unroll
        for (int v = 0; v < numbers; ++v) gradient_[c][v] += coefficient * other.number[v];
      }
    }
  }

  __device__ __forceinline__ T residual() const { return dot_ - to_accumulator(value_); }

  // Without weights, nothing waits for one.
  template <class Number>
  __device__ __forceinline__ Number weighted(Number number) const {
    return p_.weights == nullptr ? number : number * to_accumulator(weight_);
  }

  // 0 for an entry that does not exist, whatever its dot product: infinities in the line would make it NaN.
  __device__ __forceinline__ T coefficient() const {
    if (!exists()) return 0;
    return pass == Pass::given ? given_ : weighted(static_cast<T>(p_.twice_scale) * residual());
  }

  // Stores the outputs of the own entry; returns its loss.
  __device__ __forceinline__ double take_result() const {
    if (p_.products != nullptr) static_cast<T*>(p_.products)[p_.position[row_entry_]] = dot_;
    if (p_.row_coefficients != nullptr) static_cast<T*>(p_.row_coefficients)[row_entry_] = coefficient();
    return weighted(static_cast<double>(residual()) * residual());
  }

  // Adds the groups' sums and writes them to the line's gradient, or to the segment's slot.
  __device__ __forceinline__ void write_gradient() {
    T* row = segment_.slot < 0 ? static_cast<T*>(p_.gradient) + segment_.line * p_.h
                               : static_cast<T*>(p_.partials) + segment_.slot * p_.h;
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
#pragma unroll
      for (int v = 0; v < numbers; ++v) {
#pragma unroll
        for (int offset = lanes; offset < warp_size; offset *= 2) {
          gradient_[c][v] += __shfl_xor_sync(whole_warp, gradient_[c][v], offset);
        }
      }
      const int64_t first = static_cast<int64_t>(c * lanes + in_group_) * numbers;
      if (group_ == 0) store_numbers(row, first, p_.gradient_width, p_.h, gradient_[c]);
    }
  }

  const LinePass& p_;
  const Segment segment_;
  const int in_group_, group_;
  // This thread's pack of the gathered row i is at gathered_ + i · row_bytes_.
  const void* gathered_[chunks];
  uint32_t row_bytes_[chunks];
  Pack<Storage> own_[chunks];
  T gradient_[chunks][numbers] = {};
  int left_ = 0;  // entries of the segment that are left, including this batch
  // Of the own entry of the batch.
  uint32_t gathered_line_ = 0, row_entry_ = 0;
  Storage value_{}, weight_{};
  T given_ = 0, dot_ = 0;
};

template <class Reader, class Storage, Pass pass>
__global__ void __launch_bounds__(pass_threads, Reader::resident_blocks) line_pass(const LinePass p) {
  const int lane = threadIdx.x % warp_size;
  const int64_t number = static_cast<int64_t>(blockIdx.x) * pass_warps + threadIdx.x / warp_size;
  double loss = 0;
  if (number < p.order.segment_bound) {
    const Segment segment = p.order.segments[number];
    if (segment.line >= 0) loss = SegmentWalk<Reader, Storage, pass>(p, segment, lane).run();
  }
  if constexpr (pass != Pass::given) {
    if (p.losses != nullptr) {
      const double sum = block_sum<pass_threads>(loss);
      if (threadIdx.x == 0) p.losses[blockIdx.x] = sum;
    }
  }
}

}  // namespace dmf::cuda
