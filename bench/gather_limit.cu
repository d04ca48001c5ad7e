// How fast a GPU reads the rows that a pass over the observed entries must gather, and nothing else: no dot
// product, no gradient, no values. bench/gather_limit.sh compiles it.
#include <cuda_runtime.h>

#include <cstdint>

namespace {

constexpr int warp_size = 32, block_warps = 8;
constexpr unsigned whole_warp = 0xffffffffu;

// Every warp walks `entries_a_warp` entries, whole batches of 32. `lanes` threads read one row of 16 · lanes
// bytes, 16 bytes each, so that one load of the warp reads 32 / lanes rows; `depth` loads are in flight before
// the first is used.
template <int lanes, int depth>
__global__ void __launch_bounds__(warp_size* block_warps)
    gather(const float4* table, const int32_t* indices, int64_t count, int64_t entries_a_warp, float never,
           float* sink) {
  constexpr int groups = warp_size / lanes;
  const int lane = threadIdx.x % warp_size, group = lane / lanes, in_group = lane % lanes;
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * block_warps + threadIdx.x / warp_size;
  const int64_t first = warp * entries_a_warp;
  const int64_t last = first + entries_a_warp < count ? first + entries_a_warp : count;
  const auto own_index = [&](int64_t batch) {
    return __ldcs(indices + (batch + lane < count ? batch + lane : count - 1));
  };
  float4 sum = {};
  int next = own_index(first);
  for (int64_t batch = first; batch < last; batch += warp_size) {
    const int own = next;
    next = own_index(batch + warp_size);
#pragma unroll
    for (int step = 0; step < lanes; step += depth) {
      float4 loaded[depth];
#pragma unroll
      for (int u = 0; u < depth; ++u) {
        const int row = __shfl_sync(whole_warp, own, (step + u) * groups + group);
        loaded[u] = __ldg(table + static_cast<int64_t>(row) * lanes + in_group);
      }
#pragma unroll
      for (int u = 0; u < depth; ++u) {
        sum.x += loaded[u].x;
        sum.y += loaded[u].y;
        sum.z += loaded[u].z;
        sum.w += loaded[u].w;
      }
    }
  }
  // `never` is NaN, which equals nothing; the compiler does not know it and keeps the loads.
  if (sum.x + sum.y + sum.z + sum.w == never) *sink = sum.x;
}

struct Arguments {
  const void* table;
  const int32_t* indices;
  int64_t count, entries_a_warp;
  void* sink;
  cudaStream_t stream;
};

template <int lanes, int depth>
int launch(const Arguments& a) {
  const int64_t warps = (a.count + a.entries_a_warp - 1) / a.entries_a_warp;
  const int64_t blocks = (warps + block_warps - 1) / block_warps;
  gather<lanes, depth><<<static_cast<unsigned>(blocks), warp_size * block_warps, 0, a.stream>>>(
      static_cast<const float4*>(a.table), a.indices, a.count, a.entries_a_warp, __builtin_nanf(""),
      static_cast<float*>(a.sink));
  return cudaGetLastError();
}

template <int lanes>
int launch(const Arguments& a, int depth) {
  if (depth == 4) return launch<lanes, 4>(a);
  if (depth == 8 && lanes >= 8) return launch<lanes, lanes >= 8 ? 8 : 4>(a);
  return cudaErrorInvalidValue;
}

}  // namespace

// Reads row indices[e] of `table`, whose rows have `row_bytes` bytes, for every e below `count`. Returns a
// cudaError_t: cudaErrorInvalidValue for widths and depths that have no kernel.
extern "C" int gather_rows(const void* table, int64_t row_bytes, const int32_t* indices, int64_t count,
                           int64_t entries_a_warp, int depth, void* sink, void* stream) {
  if (count == 0) return cudaSuccess;
  const Arguments a = {table, indices, count, entries_a_warp, sink, static_cast<cudaStream_t>(stream)};
  if (row_bytes == 64) return launch<4>(a, depth);
  if (row_bytes == 128) return launch<8>(a, depth);
  if (row_bytes == 256) return launch<16>(a, depth);
  if (row_bytes == 512) return launch<32>(a, depth);
  return cudaErrorInvalidValue;
}
