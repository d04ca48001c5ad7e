// Runs CUDA kernels on the CPU, for tests.
//
// The blocks of a launch run one after the other, the threads of a block as fibers that yield where they wait
// for each other: at barriers, and wherever the threads of a warp exchange numbers. If a thread never arrives
// where others wait for it, the program ends with a message.
//
// What is wrong on a GPU should show here:
//   memory errors     are found by AddressSanitizer: shared memory has exactly the requested size
//   unwritten memory  is full of garbage that differs from block to block and from run to run
//   early reads       of asynchronous copies find garbage: a copy completes when its thread waits for it
//   races             are found by ThreadSanitizer: every fiber is a thread to it, and only barriers and the
//                     ends of launches order them. It reports two blocks that write the same number, and a
//                     read of what another thread wrote if only a shuffle is between them.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define DMF_SIMT_UNCHECKED __attribute__((no_sanitize("thread"), noinline))
#else
#define DMF_SIMT_UNCHECKED
#endif
// Also unchecked by AddressSanitizer, which would treat a jump to another stack as a return from all frames.
#define DMF_SIMT_SWITCH __attribute__((no_sanitize("address", "thread"), noinline))

inline struct SimtIndex {
  unsigned x;
} threadIdx, blockIdx, blockDim;

namespace dmf::simt {

constexpr int warp_size = 32;
constexpr size_t stack_bytes = 128 * 1024;
constexpr unsigned largest_block = 256;
constexpr size_t fixed_array_bytes = 256;
constexpr size_t slot_bytes = 64;  // what a thread may show to the others of its warp

// --- Garbage ----------------------------------------------------------------------------------------

inline uint64_t draw_seed() {
  const char* given = std::getenv("DMF_SIMT_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::fprintf(stderr, "unwritten memory is that of DMF_SIMT_SEED=%llu\n",
               static_cast<unsigned long long>(seed));
  return seed;
}

inline uint64_t garbage_state = draw_seed();

// The contents of uninitialized memory (splitmix64): about every fourth word is NaN in any type.
DMF_SIMT_UNCHECKED inline uint64_t garbage() {
  uint64_t word = garbage_state += 0x9e3779b97f4a7c15u;
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
  word = (word ^ word >> 27) * 0x94d049bb133111ebu;
  word ^= word >> 31;
  return word % 4 == 0 ? ~uint64_t{0} : word;
}

inline void fill_with_garbage(void* memory, size_t bytes) {
  for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
    const uint64_t word = garbage();
    std::memcpy(static_cast<unsigned char*>(memory) + at, &word, std::min(bytes - at, sizeof word));
  }
}

// --- The machine ------------------------------------------------------------------------------------

// Where threads wait until all that are still running have arrived.
struct Barrier {
  int members = 0, arrived = 0;
  uint64_t generation = 0;
  // Two bytes tell ThreadSanitizer what comes before. They take turns: a single one would order a late thread
  // after what the others do next. Each block has its own, so that they do not order blocks.
  unsigned char* order = nullptr;
};

struct Warp {
  Barrier barrier;
  // Two sets that take turns: a thread is at most one exchange ahead of another.
  alignas(16) unsigned char slots[2][warp_size][slot_bytes];
};

// A copy of at most 16 bytes in flight to shared memory.
struct Copy {
  void* target;
  size_t size;
  unsigned char bytes[16];
};

struct Stack {
  const void* bottom = nullptr;
  size_t bytes = 0;
};

// Where a stack was left, or where it begins.
struct Context {
  void* left[5];  // by __builtin_setjmp
  ucontext_t begin;
  bool begun = true;
};

struct Fiber {
  Context context;
  char* stack = nullptr;  // lives as long as the program
  bool done;
  const Barrier* waits_for;
  uint64_t waits_in;
  int exchanges;
  std::vector<Copy> copies;
  void* sanitizer_fiber = nullptr;
};

// Fibers and warps of a block.
struct Team {
  Fiber fibers[largest_block];
  Warp warps[largest_block / warp_size];
};

// The block that currently runs, and the machine that runs it.
struct Machine {
  Team teams[2];  // consecutive blocks have different ones
  Team* team = teams;
  Barrier block;
  Context scheduler;
  void* scheduler_fiber = nullptr;
  Stack scheduler_stack;
  unsigned current = 0;
  void (*body)(void*) = nullptr;
  void* arguments = nullptr;
  // The block's shared memory: as much as the launch requested, and a pool for arrays of fixed size. It is kept
  // until the end of the launch, so that no two blocks ever have the same.
  unsigned char *dynamic_shared = nullptr, *fixed_shared = nullptr;
  const void* fixed_names[8] = {};
  std::vector<std::unique_ptr<unsigned char[]>> kept;
  char begins = 0, ends = 0;  // tell ThreadSanitizer what comes before a block and after a launch

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

DMF_SIMT_SWITCH inline void jump(Context& to) {
  if (to.begun) __builtin_longjmp(to.left, 1);
  to.begun = true;
  setcontext(&to.begin);
}

// Switches from one context to another and tells the sanitizers; `before` receives the stack of the context
// that switches back here. swapcontext would take most of the time of a test: it makes a system call, and
// AddressSanitizer clears its memory of the whole stack.
DMF_SIMT_SWITCH inline void switch_context(Context& from, Context& to, [[maybe_unused]] Stack stack,
                                           [[maybe_unused]] void* sanitizer_fiber,
                                           [[maybe_unused]] Stack* before) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack.bottom, stack.bytes);
#elif defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(sanitizer_fiber, __tsan_switch_to_fiber_no_sync);
#endif
  if (__builtin_setjmp(from.left) == 0) jump(to);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, before ? &before->bottom : nullptr,
                                  before ? &before->bytes : nullptr);
#endif
}

DMF_SIMT_UNCHECKED inline void to_scheduler(Fiber& fiber) {
  switch_context(fiber.context, machine.scheduler, machine.scheduler_stack, machine.scheduler_fiber,
                 &machine.scheduler_stack);
}

DMF_SIMT_UNCHECKED inline void to_fiber(unsigned thread) {
  machine.current = threadIdx.x = thread;
  Fiber& fiber = machine.fiber();
  switch_context(machine.scheduler, fiber.context, {fiber.stack, stack_bytes}, fiber.sanitizer_fiber, nullptr);
}

// --- Waiting ----------------------------------------------------------------------------------------

DMF_SIMT_UNCHECKED inline void open_if_complete(Barrier& barrier) {
  if (barrier.members == 0 || barrier.arrived < barrier.members) return;
  barrier.arrived = 0;
  ++barrier.generation;
}

// A thread that has waited this way may still not read what others wrote.
DMF_SIMT_UNCHECKED inline void meet(Barrier& barrier) {
  Fiber& fiber = machine.fiber();
  fiber.waits_for = &barrier;
  fiber.waits_in = barrier.generation;
  ++barrier.arrived;
  open_if_complete(barrier);
  if (barrier.generation == fiber.waits_in) to_scheduler(fiber);
  fiber.waits_for = nullptr;
}

DMF_SIMT_UNCHECKED inline void wait(Barrier& barrier) {
  unsigned char* order = barrier.order + barrier.generation % 2;
  release(order);
  meet(barrier);
  acquire(order);
}

// Shows `mine` to the warp, waits for the others, and returns what they showed. Bytes are copied one by one,
// since ThreadSanitizer intercepts memcpy everywhere.
DMF_SIMT_UNCHECKED inline const unsigned char (*exchange(const void* mine, size_t bytes)) [slot_bytes] {
  Fiber& fiber = machine.fiber();
  Warp& warp = machine.warp();
  auto* slots = warp.slots[fiber.exchanges++ % 2];
  volatile unsigned char* slot = slots[machine.current % warp_size];
  for (size_t k = 0; k < bytes; ++k) slot[k] = static_cast<const unsigned char*>(mine)[k];
  meet(warp.barrier);
  return slots;
}

template <class T>
DMF_SIMT_UNCHECKED T taken(const unsigned char (*slots)[slot_bytes], int lane) {
  T number;
  volatile auto* bytes = reinterpret_cast<unsigned char*>(&number);
  for (size_t k = 0; k < sizeof number; ++k) bytes[k] = slots[lane][k];
  return number;
}

// --- Asynchronous copies ----------------------------------------------------------------------------

inline void start_copy(void* target, const void* source, size_t size) {
  if (reinterpret_cast<uintptr_t>(source) % size != 0) stop("an asynchronous copy is read from elsewhere");
  if (reinterpret_cast<uintptr_t>(target) % size != 0) stop("an asynchronous copy is written elsewhere");
  Copy copy{target, size, {}};
  std::memcpy(copy.bytes, source, size);
  fill_with_garbage(target, size);
  machine.fiber().copies.push_back(copy);
}

// Completes this thread's copies.
inline void land_copies() {
  for (const Copy& copy : machine.fiber().copies) std::memcpy(copy.target, copy.bytes, copy.size);
  machine.fiber().copies.clear();
}

// --- Launching --------------------------------------------------------------------------------------

// A fiber runs one thread after another.
DMF_SIMT_UNCHECKED inline void run_threads() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &machine.scheduler_stack.bottom, &machine.scheduler_stack.bytes);
#endif
  for (;;) {
    acquire(&machine.begins);
    machine.body(machine.arguments);
    release(&machine.ends);
    Fiber& fiber = machine.fiber();
    if (!fiber.copies.empty()) stop("a thread ends without waiting for its copies");
    fiber.done = true;
    for (Barrier* barrier : {&machine.warp().barrier, &machine.block}) {
      --barrier->members;
      open_if_complete(*barrier);
    }
    to_scheduler(fiber);
  }
}

DMF_SIMT_UNCHECKED inline void make_fiber(Fiber& fiber) {
  fiber.stack = new char[stack_bytes];
  getcontext(&fiber.context.begin);
  fiber.context.begin.uc_stack.ss_sp = fiber.stack;
  fiber.context.begin.uc_stack.ss_size = stack_bytes;
  makecontext(&fiber.context.begin, run_threads, 0);
  fiber.context.begun = false;
#if defined(__SANITIZE_THREAD__)
  fiber.sanitizer_fiber = __tsan_create_fiber(0);
#endif
}

inline unsigned char* fresh_memory(size_t bytes) {
  machine.kept.emplace_back(new unsigned char[bytes]);
  fill_with_garbage(machine.kept.back().get(), bytes);
  return machine.kept.back().get();
}

DMF_SIMT_UNCHECKED inline void start_block(unsigned threads, size_t shared_bytes) {
  unsigned char* orders = fresh_memory(2 * (1 + largest_block / warp_size));
  const auto fresh_barrier = [&orders](int members) {
    return Barrier{members, 0, 0, std::exchange(orders, orders + 2)};
  };
  machine.block = fresh_barrier(static_cast<int>(threads));
  for (Warp& warp : machine.team->warps) warp.barrier = fresh_barrier(0);
  machine.dynamic_shared = fresh_memory(shared_bytes);
  machine.fixed_shared = fresh_memory(fixed_array_bytes);
  release(&machine.begins);
  for (unsigned thread = 0; thread < threads; ++thread) {
    Fiber& fiber = machine.team->fibers[thread];
    fiber.done = false;
    fiber.waits_for = nullptr;
    fiber.exchanges = 0;
    ++machine.team->warps[thread / warp_size].barrier.members;
    if (fiber.stack == nullptr) make_fiber(fiber);
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

// Runs blocks of `threads` threads, each of which calls body(arguments).
inline void run_blocks(int64_t blocks, int threads, int64_t shared_bytes, void (*body)(void*),
                       void* arguments) {
  machine.body = body;
  machine.arguments = arguments;
#if defined(__SANITIZE_THREAD__)
  machine.scheduler_fiber = __tsan_get_current_fiber();
#endif
  for (int64_t block = 0; block < blocks; ++block) {
    run_block(static_cast<unsigned>(block), static_cast<unsigned>(threads), static_cast<size_t>(shared_bytes));
  }
  acquire(&machine.ends);
  machine.kept.clear();
}

}  // namespace dmf::simt
