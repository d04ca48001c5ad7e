// Runs CUDA kernels on the CPU, for tests: include this before any kernel header of csrc/kernels/cuda.
//
// The blocks of a launch run one after the other, the threads of a block as fibers that give way where they
// wait for each other: at __syncthreads, and wherever the threads of a warp exchange numbers. A thread that
// others wait for in vain ends the program with a message. Memory errors are AddressSanitizer's to find: shared
// memory is as long as was asked for and full of rubbish. Races are ThreadSanitizer's: every fiber is a thread
// to it, and only barriers, exchanges and the ends of launches order them, so two blocks that write one number
// are reported.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <tuple>
#include <vector>

#include "../kernels/number_types.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define DMF_SIMT_UNCHECKED __attribute__((no_sanitize("thread"), noinline))
#else
#define DMF_SIMT_UNCHECKED
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

using cudaStream_t = void*;

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

inline struct SimtIndex {
  unsigned x;
} threadIdx, blockIdx, blockDim;

namespace dmf::simt {

constexpr int warp_size = 32;
constexpr size_t stack_bytes = 128 * 1024;
constexpr unsigned largest_block = 256;
constexpr size_t fixed_array_bytes = 256;
constexpr size_t slot_bytes = 64;  // what a thread may show the others of its warp

// Where threads wait until all that are still running have come.
struct Barrier {
  int members = 0, arrived = 0;
  uint64_t generation = 0;
};

struct Warp {
  Barrier barrier;
  // Two sets that take turns: a thread is at most one exchange ahead of another.
  alignas(16) unsigned char slots[2][warp_size][slot_bytes];
};

struct Stack {
  const void* bottom = nullptr;
  size_t bytes = 0;
};

struct Fiber {
  ucontext_t context;
  char* stack = new char[stack_bytes];  // lives as long as the program
  bool done;
  const Barrier* waits_for;
  uint64_t waits_in;
  int exchanges;
  void* sanitizer_fiber = nullptr;
};

// Fibers and warps of a block.
struct Team {
  Fiber fibers[largest_block];
  Warp warps[largest_block / warp_size];
};

// The block that runs at present, and the machine that runs it.
struct Machine {
  Team teams[2];  // blocks in turn have different ones
  Team* team = teams;
  Barrier block;
  ucontext_t scheduler;
  void* scheduler_fiber = nullptr;
  Stack scheduler_stack;
  unsigned current = 0;
  void (*body)(void*) = nullptr;
  void* arguments = nullptr;
  // Shared memory of the block: as much as the launch asked for, and a pool for arrays of fixed size. It is
  // kept to the end of the launch, so that no two blocks ever have the same.
  unsigned char *dynamic_shared = nullptr, *fixed_shared = nullptr;
  const void* fixed_names[8] = {};
  std::vector<std::unique_ptr<unsigned char[]>> kept;
  char begins = 0, ends = 0;  // by these ThreadSanitizer knows what comes before a block and after a launch

  Fiber& fiber() { return team->fibers[current]; }
  Warp& warp() { return team->warps[current / warp_size]; }
};
inline Machine& machine = *new Machine;

[[noreturn]] inline void stop(const char* reason) {
  std::fprintf(stderr, "block %u: %s\n", blockIdx.x, reason);
  std::abort();
}

#if defined(__SANITIZE_THREAD__)
constexpr auto release = __tsan_release, acquire = __tsan_acquire;
#else
constexpr auto release = [](void*) {}, acquire = release;
#endif

// Goes from one context to another, and says so to the sanitizers; `before`, where not null, receives the stack
// of the one who comes back here.
DMF_SIMT_UNCHECKED inline void switch_context(ucontext_t& from, ucontext_t& to, [[maybe_unused]] Stack stack,
                                              [[maybe_unused]] void* sanitizer_fiber,
                                              [[maybe_unused]] bool last, [[maybe_unused]] Stack* before) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(last ? nullptr : &fake_stack, stack.bottom, stack.bytes);
#elif defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(sanitizer_fiber, __tsan_switch_to_fiber_no_sync);
#endif
  swapcontext(&from, &to);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, before ? &before->bottom : nullptr,
                                  before ? &before->bytes : nullptr);
#endif
}

DMF_SIMT_UNCHECKED inline void to_scheduler(Fiber& fiber) {
  switch_context(fiber.context, machine.scheduler, machine.scheduler_stack, machine.scheduler_fiber, fiber.done,
                 &machine.scheduler_stack);
}

DMF_SIMT_UNCHECKED inline void to_fiber(unsigned thread) {
  machine.current = threadIdx.x = thread;
  Fiber& fiber = machine.fiber();
  switch_context(machine.scheduler, fiber.context, {fiber.stack, stack_bytes}, fiber.sanitizer_fiber, false,
                 nullptr);
}

// --- Waiting ----------------------------------------------------------------------------------------

DMF_SIMT_UNCHECKED inline void open_if_complete(Barrier& barrier) {
  if (barrier.members == 0 || barrier.arrived < barrier.members) return;
  barrier.arrived = 0;
  ++barrier.generation;
}

DMF_SIMT_UNCHECKED inline void wait(Barrier& barrier) {
  release(&barrier);
  Fiber& fiber = machine.fiber();
  fiber.waits_for = &barrier;
  fiber.waits_in = barrier.generation;
  ++barrier.arrived;
  open_if_complete(barrier);
  if (barrier.generation == fiber.waits_in) to_scheduler(fiber);
  fiber.waits_for = nullptr;
  acquire(&barrier);
}

// Shows `mine` to the warp, waits for the others, and returns what they showed.
DMF_SIMT_UNCHECKED inline const unsigned char (*exchange(const void* mine, size_t bytes)) [slot_bytes] {
  Fiber& fiber = machine.fiber();
  Warp& warp = machine.warp();
  auto* slots = warp.slots[fiber.exchanges++ % 2];
  std::memcpy(slots[machine.current % warp_size], mine, bytes);
  wait(warp.barrier);
  return slots;
}

template <class T>
DMF_SIMT_UNCHECKED T taken(const unsigned char (*slots)[slot_bytes], int lane) {
  T number;
  std::memcpy(&number, slots[lane], sizeof number);
  return number;
}

// --- Launching --------------------------------------------------------------------------------------

DMF_SIMT_UNCHECKED inline void run_thread() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &machine.scheduler_stack.bottom, &machine.scheduler_stack.bytes);
#endif
  acquire(&machine.begins);
  machine.body(machine.arguments);
  release(&machine.ends);
  Fiber& fiber = machine.fiber();
  fiber.done = true;
  for (Barrier* barrier : {&machine.warp().barrier, &machine.block}) {
    --barrier->members;
    open_if_complete(*barrier);
  }
  to_scheduler(fiber);
}

inline unsigned char* fresh_memory(size_t bytes) {
  machine.kept.emplace_back(new unsigned char[bytes]);
  std::memset(machine.kept.back().get(), 0xee, bytes);
  return machine.kept.back().get();
}

DMF_SIMT_UNCHECKED inline void start_block(unsigned threads, size_t shared_bytes) {
  machine.block = Barrier{static_cast<int>(threads)};
  for (Warp& warp : machine.team->warps) warp.barrier = Barrier{};
  machine.dynamic_shared = fresh_memory(shared_bytes);
  machine.fixed_shared = fresh_memory(fixed_array_bytes);
  release(&machine.begins);
  for (unsigned thread = 0; thread < threads; ++thread) {
    Fiber& fiber = machine.team->fibers[thread];
    fiber.done = false;
    fiber.waits_for = nullptr;
    fiber.exchanges = 0;
    ++machine.team->warps[thread / warp_size].barrier.members;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = stack_bytes;
    makecontext(&fiber.context, run_thread, 0);
#if defined(__SANITIZE_THREAD__)
    if (fiber.sanitizer_fiber == nullptr) fiber.sanitizer_fiber = __tsan_create_fiber(0);
#endif
  }
}

DMF_SIMT_UNCHECKED inline void run_block(unsigned block, unsigned threads, size_t shared_bytes) {
  blockIdx.x = block;
  blockDim.x = threads;
  machine.team = &machine.teams[block % 2];
  start_block(threads, shared_bytes);
  for (bool running = true; running;) {
    running = false;
    bool moved = false;
    for (unsigned thread = 0; thread < threads; ++thread) {
      const Fiber& fiber = machine.team->fibers[thread];
      if (fiber.done) continue;
      running = true;
      if (fiber.waits_for != nullptr && fiber.waits_for->generation == fiber.waits_in) continue;
      moved = true;
      to_fiber(thread);
    }
    if (running && !moved) stop("threads wait for others that never come");
  }
}

}  // namespace dmf::simt

// --- The names of CUDA ------------------------------------------------------------------------------

// All threads of a warp take part, always.
template <class T>
T __shfl_sync(unsigned mask, T number, int source, int width = 32) {
  if (mask != 0xffffffffu) dmf::simt::stop("a shuffle without the whole warp");
  const int lane = threadIdx.x % 32;
  const auto* slots = dmf::simt::exchange(&number, sizeof number);
  return dmf::simt::taken<T>(slots, lane / width * width + source % width);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T number, int offset) {
  return __shfl_sync(mask, number, static_cast<int>(threadIdx.x % 32) ^ offset);
}

// clang-format off
inline void __syncthreads() { dmf::simt::wait(dmf::simt::machine.block); }
inline int __popcll(uint64_t bits) { return std::popcount(bits); }
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t __float_as_uint(float number) { return std::bit_cast<uint32_t>(number); }
inline double __hiloint2double(int high, int low) { return std::bit_cast<double>(uint64_t(uint32_t(high)) << 32 | uint32_t(low)); }
inline int __double2hiint(double number) { return static_cast<int>(std::bit_cast<uint64_t>(number) >> 32); }
inline int __double2loint(double number) { return static_cast<int>(std::bit_cast<uint64_t>(number)); }
inline void atomicOr(unsigned long long* target, unsigned long long bits) { __atomic_fetch_or(target, bits, __ATOMIC_RELAXED); }
// clang-format on

using std::max, std::min;

// --- The names of device.cuh and sort.cuh ---------------------------------------------------------------

namespace dmf::cuda {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, int64_t shared_bytes, cudaStream_t,
            Arguments... arguments) {
  auto call = [&] { kernel(arguments...); };
  simt::machine.body = [](void* context) { (*static_cast<decltype(call)*>(context))(); };
  simt::machine.arguments = &call;
#if defined(__SANITIZE_THREAD__)
  simt::machine.scheduler_fiber = __tsan_get_current_fiber();
#endif
  for (int64_t block = 0; block < blocks; ++block) {
    simt::run_block(static_cast<unsigned>(block), static_cast<unsigned>(threads),
                    static_cast<size_t>(shared_bytes));
  }
  simt::acquire(&simt::machine.ends);
  simt::machine.kept.clear();
}

inline void fill_bytes(void* target, int byte, int64_t size, cudaStream_t) {
  if (size > 0) std::memset(target, byte, static_cast<size_t>(size));
}

template <class T, int count>
T* shared_array() {
  static_assert(sizeof(T) * count <= simt::fixed_array_bytes);
  return reinterpret_cast<T*>(simt::machine.fixed_shared);
}

inline uint4 load_16_bytes(const void* source) {
  if (reinterpret_cast<uintptr_t>(source) % 16 != 0) simt::stop("16 bytes are read from elsewhere");
  uint4 bits;
  std::memcpy(&bits, source, sizeof bits);
  return bits;
}

inline void store_16_bytes(void* target, uint4 bits) {
  if (reinterpret_cast<uintptr_t>(target) % 16 != 0) simt::stop("16 bytes are written elsewhere");
  std::memcpy(target, &bits, sizeof bits);
}

// clang-format off
template <class T> T load_once(const T* source) { return *source; }
inline unsigned char* dynamic_shared() { return simt::machine.dynamic_shared; }
inline float half_to_float(uint16_t bits) { return widen(float16{bits}); }
// clang-format on

template <class Pairs, class Workspace>
void sort_pairs(Pairs& pairs, int64_t count, int, Workspace&, cudaStream_t) {
  std::vector<std::pair<uint64_t, uint32_t>> sorted;
  for (int64_t k = 0; k < count; ++k) sorted.emplace_back(pairs.keys[k], pairs.numbers[k]);
  std::sort(sorted.begin(), sorted.end());
  // CUB may leave them in either of the buffers: here always in the others.
  for (int64_t k = 0; k < count; ++k) std::tie(pairs.other_keys[k], pairs.other_numbers[k]) = sorted[k];
  std::swap(pairs.keys, pairs.other_keys);
  std::swap(pairs.numbers, pairs.other_numbers);
}

template <class Workspace>
void exclusive_sums(int64_t* numbers, int64_t count, Workspace&, cudaStream_t) {
  std::exclusive_scan(numbers, numbers + count, numbers, int64_t{0});
}
// --- The names of mma.cuh ---------------------------------------------------------------------------

// Every thread shows its words of a and b, and makes its numbers of d from all; `product` is that of two words.
// Sums are rounded toward zero, as tensor cores do.
template <class Product>
void shim_mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Product& product) {
  struct Words {
    uint32_t a[4], b[2];
  };
  const Words mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const auto* slots = simt::exchange(&mine, sizeof mine);
  for (int k = 0; k < 4; ++k) {
    const int row = threadIdx.x % 32 / 4 + k / 2 * 8, column = threadIdx.x % 4 * 2 + k % 2;
    double sum = d[k];
    for (int inner = 0; inner < 8; ++inner) {
      const Words left = simt::taken<Words>(slots, row % 8 * 4 + inner % 4);
      const Words right = simt::taken<Words>(slots, column * 4 + inner % 4);
      sum += product(left.a[row / 8 + inner / 4 * 2], right.b[inner / 4]);
    }
    d[k] = static_cast<float>(sum);
    if (std::fabs(d[k]) > std::fabs(sum)) d[k] = std::nextafterf(d[k], 0.0f);
  }
}

constexpr auto masked = [](uint32_t bits, uint32_t mask) -> double { return __uint_as_float(bits & mask); };

inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  shim_mma(d, a, b, [](uint32_t x, uint32_t y) { return masked(x, 0xffffe000u) * masked(y, 0xffffe000u); });
}

inline void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  shim_mma(d, a, b, [](uint32_t x, uint32_t y) {
    return masked(x << 16, ~0u) * masked(y << 16, ~0u) + masked(x, 0xffff0000u) * masked(y, 0xffff0000u);
  });
}

// clang-format off
inline uint32_t rounded_to_bfloat16(uint32_t bits) { return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16; }
inline uint32_t pack_bfloat16(float earlier, float later) { return rounded_to_bfloat16(__float_as_uint(earlier)) | rounded_to_bfloat16(__float_as_uint(later)) << 16; }
inline uint32_t round_to_tf32(float number) { return (__float_as_uint(number) + 0x1000u) & 0xffffe000u; }
inline void copy_16_bytes_async(void* shared, const void* global) { store_16_bytes(shared, load_16_bytes(global)); }
inline void end_copy_batch() {}
template <int> void wait_for_copies() {}
// clang-format on

}  // namespace dmf::cuda
