// One pass over one order of Ω: every warp owns a segment of a line (device_layout.h), holds the line's row of
// the own side (A in the row pass, Bᵀ in the column pass) in registers and gathers rows of the other side.
//
//   dots       the products A[i]·B[:,j], or the loss, or the coefficients 2·scale·w·(A[i]·B[:,j] − b)
//   fused      those dots, the loss and the gradient of the own side, from one gather
//   given      the gradient of the own side for coefficients that are there
//
// A row is `packs` packs of 16 bytes. `lanes` threads read it, one pack each, `chunks` times; so 32 / lanes
// entries are read at once, and `depth` loads are in flight in every thread before the first is used. Thread t
// of a group owns every entry of a batch of 32 whose number is (t, group): it loads the entry's index and
// target, receives its dot product from a transposed sum, and alone makes its coefficient and loss.
//
// An entry of the fused pass costs 4h flops, h numbers gathered from L2 or L1 and, streamed, 2 bytes of index
// and its value; 4 bytes of place, and its value at random, in the column pass. No atomics: a line's gradient,
// or a slot of partial sums, is written by one warp, and all sums have a fixed order.
#pragma once

#include "entries.cuh"
#include "warp.cuh"

namespace dmf::cuda {

constexpr int pass_threads = 128;
constexpr int pass_warps = pass_threads / warp_size;

enum class Pass { dots, fused, given };

// Rows have `stride` numbers, whole packs, zeros behind the first h. A pass reads `width` of them and writes as
// many columns of the gradients as there are.
struct LinePass {
  LineOrder order;
  const uint32_t* position;
  const void* own;
  const void* gathered;
  int64_t stride, width;
  const void* values;  // row order, as are weights and row_coefficients
  const void* weights;
  const void* coefficients;   // given: in the caller's order; null where row_coefficients are read
  void* row_coefficients;     // dots and fused: written where not null; given: read
  void* products;             // dots: written in the caller's order, where not null
  void* gradient;             // (lines, h)
  void* partials;             // (slots, h)
  int64_t h, gradient_width;  // the gradient's row, and how many columns of it are written
  double* losses;             // one for every block of threads; null where none are wanted
  double twice_scale;
};

// How a warp reads rows.
template <class Storage, int lane_count, int chunk_count>
struct RowReader {
  using T = accumulator_t<Storage>;
  static constexpr int lanes = lane_count, chunks = chunk_count;
  static constexpr int groups = warp_size / lanes;
  static constexpr int depth = chunks >= 8 ? 1 : 8 / chunks < lanes ? 8 / chunks : lanes;
  static constexpr int numbers = pack_size<Storage>;
  static constexpr int panel = lanes * chunks * numbers;  // numbers that are held at once
  // How many blocks of threads a multiprocessor should hold: as many as have registers without spilling.
  static constexpr int resident_blocks = chunks * numbers >= 32 ? 2 : numbers == 8 ? 3 : 4;

  // The pack that thread `in_group` reads in `chunk`; zeros past the end.
  static __device__ __forceinline__ uint4 load(const Storage* row, int64_t width, int in_group, int chunk) {
    const int64_t first = static_cast<int64_t>(chunk * lanes + in_group) * numbers;
    return first < width ? load_16_bytes(row + first) : uint4{0, 0, 0, 0};
  }
};

// What a thread knows of the entry that it owns.
template <class T>
struct OwnedEntry {
  bool exists = false;
  uint32_t row_entry = 0;  // its place in row order
  int32_t gathered_line = 0;
  T target = 0, weight = 0;
};

template <class Storage, Pass pass>
__device__ __forceinline__ OwnedEntry<accumulator_t<Storage>> owned_entry(const LinePass& p,
                                                                          const Segment& segment, int number) {
  using T = accumulator_t<Storage>;
  OwnedEntry<T> entry;
  if (number >= segment.count) return entry;
  const int64_t place = segment.start + number;
  entry.exists = true;
  entry.gathered_line = gathered_line(p.order, segment, place);
  entry.row_entry = p.order.place == nullptr ? static_cast<uint32_t>(place) : load_once(p.order.place + place);
  if constexpr (pass == Pass::given) {
    const T* coefficients = static_cast<const T*>(p.coefficients);
    entry.target = coefficients == nullptr ? static_cast<const T*>(p.row_coefficients)[entry.row_entry]
                                           : coefficients[p.position[entry.row_entry]];
  } else if (p.values != nullptr) {
    entry.target = number_of<Storage>(p.values, entry.row_entry);
    entry.weight = weight_of<Storage>(p.weights, entry.row_entry);
  }
  return entry;
}

// One warp's way through a segment.
template <class Reader, class Storage, Pass pass>
class SegmentWalk {
  using T = accumulator_t<Storage>;
  static constexpr int lanes = Reader::lanes, groups = Reader::groups, chunks = Reader::chunks;
  static constexpr int depth = Reader::depth, numbers = Reader::numbers;

  // `depth` rows of the gathered side that are in flight at once; zeros for entries that do not exist.
  using Rows = uint4[depth][chunks];

 public:
  __device__ __forceinline__ SegmentWalk(const LinePass& p, const Segment& segment, int lane)
      : p_(p), segment_(segment), in_group_(lane % lanes), group_(lane / lanes) {}

  // Returns this thread's part of the loss: of the entries that it owns.
  __device__ __forceinline__ double run() {
    double loss = 0;
    for (int batch = 0; batch < segment_.count; batch += warp_size) {
      // Neighboring threads of different groups own neighboring entries.
      entry_ = owned_entry<Storage, pass>(p_, segment_, batch + in_group_ * groups + group_);
      left_ = min(warp_size, segment_.count - batch);
      dot_ = 0;
      // Rows wider than what is held at once take several turns, for dots alone.
      for (int64_t panel = 0; panel < p_.width; panel += Reader::panel) {
        if (pass != Pass::given && (batch == 0 || p_.width > Reader::panel)) load_own(panel);
        for (int step = 0; step * groups < left_; step += depth) {
          Rows rows;
          load_rows(step, panel, rows);
          if constexpr (pass != Pass::given) add_dots(step, rows);
          if constexpr (pass != Pass::dots) add_gradient(step, rows);
        }
      }
      if (pass != Pass::given && entry_.exists) loss += take_result();
    }
    if constexpr (pass != Pass::dots) write_gradient();
    return loss;
  }

 private:
  __device__ __forceinline__ void load_own(int64_t panel) {
    const Storage* row = static_cast<const Storage*>(p_.own) + segment_.line * p_.stride + panel;
#pragma unroll
    for (int c = 0; c < chunks; ++c) own_[c] = Pack<Storage>(Reader::load(row, p_.width - panel, in_group_, c));
  }

  __device__ __forceinline__ void load_rows(int step, int64_t panel, Rows& rows) const {
    const Storage* gathered = static_cast<const Storage*>(p_.gathered) + panel;
#pragma unroll
    for (int u = 0; u < depth; ++u) {
      const int32_t line = __shfl_sync(whole_warp, entry_.gathered_line, step + u, lanes);
      const bool exists = (step + u) * groups + group_ < left_;
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        rows[u][c] = exists ? Reader::load(gathered + line * p_.stride, p_.width - panel, in_group_, c)
                            : uint4{0, 0, 0, 0};
      }
    }
  }

  // Every thread's own entry receives its dot product when its turn comes.
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
    const T own_coefficient = pass == Pass::given ? entry_.target : coefficient();
#pragma unroll
    for (int u = 0; u < depth; ++u) {
      const T coefficient = __shfl_sync(whole_warp, own_coefficient, step + u, lanes);
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        const Pack<Storage> other(rows[u][c]);
#pragma unroll
        for (int v = 0; v < numbers; ++v) gradient_[c][v] += coefficient * other.number[v];
      }
    }
  }

  // 0 for an entry that does not exist, whatever its dot product: infinities of the line would make it NaN.
  __device__ __forceinline__ T coefficient() const {
    return entry_.exists ? static_cast<T>(p_.twice_scale) * entry_.weight * (dot_ - entry_.target) : T(0);
  }

  // Stores what is wanted of the own entry; returns its loss.
  __device__ __forceinline__ double take_result() const {
    if (p_.products != nullptr) static_cast<T*>(p_.products)[p_.position[entry_.row_entry]] = dot_;
    if (p_.row_coefficients != nullptr) {
      static_cast<T*>(p_.row_coefficients)[entry_.row_entry] = coefficient();
    }
    const T residual = dot_ - entry_.target;
    return static_cast<double>(entry_.weight) * residual * residual;
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
  OwnedEntry<T> entry_;
  int left_ = 0;  // entries of the batch
  T dot_ = 0;     // of the own entry
  Pack<Storage> own_[chunks];
  T gradient_[chunks][numbers] = {};
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
