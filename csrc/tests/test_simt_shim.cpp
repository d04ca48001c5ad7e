// The shim itself: kernels that break a rule of a GPU fail on it.
#include "cuda_problems.h"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <vector>

#include "../kernels/cuda/warp.cuh"

using namespace dmf;
using namespace dmf::test;

namespace {

using Words = std::vector<uint32_t>;

constexpr int threads = 64;
constexpr int64_t shared_bytes = threads * 16;

uint32_t* shared_words() {
  return reinterpret_cast<uint32_t*>(cuda::dynamic_shared());
}

// --- Uninitialized memory ---

__global__ void show_shared(uint32_t* shown) {
  shown[blockIdx.x * threads + threadIdx.x] = shared_words()[threadIdx.x];
}

Words shown_shared(int64_t blocks) {
  Words shown(blocks * threads);
  cuda::launch(show_shared, blocks, threads, shared_bytes, nullptr, shown.data());
  return shown;
}

// --- Asynchronous copies ---

// Copies 16 and 4 bytes per thread, and shows the first words after it has waited, and before.
__global__ void copy_and_look(const uint32_t* given, uint32_t* shown) {
  uint32_t* own = shared_words() + 8 * threadIdx.x;
  cuda::copy_16_bytes_async(own, given + 4 * threadIdx.x);
  cuda::copy_4_bytes_async(own + 4, given + threadIdx.x);
  for (int word = 0; word < 2; ++word) shown[word * threads + threadIdx.x] = own[4 * word];
  cuda::wait_for_copies();
  for (int word = 0; word < 2; ++word) shown[(2 + word) * threads + threadIdx.x] = own[4 * word];
}

// --- What orders memory ---

enum class Between { shuffle, warp_barrier, block_barrier };

// Every thread reads what its neighbor wrote.
template <Between between>
__global__ void read_neighbor(uint32_t* shown) {
  shared_words()[threadIdx.x] = threadIdx.x;
  if (between == Between::shuffle) __shfl_xor_sync(cuda::whole_warp, 0, 1);
  if (between == Between::warp_barrier) __syncwarp();
  if (between == Between::block_barrier) __syncthreads();
  shown[threadIdx.x] = shared_words()[threadIdx.x ^ 1];
}

// Thread 0 reads too late what the last thread, which never yields, then overwrites.
__global__ void overwrite_early(uint32_t* shown) {
  if (threadIdx.x == 0) shared_words()[0] = 1;
  __syncthreads();
  if (threadIdx.x == threads - 1) shared_words()[0] = 2;
  if (threadIdx.x == 0) shown[0] = shared_words()[0];
  __syncthreads();
}

// Blocks write the same number, one before its barrier and one after.
__global__ void write_from_two_blocks(uint32_t* shown) {
  if (blockIdx.x == 0 && threadIdx.x == 0) shown[0] = 1;
  __syncthreads();
  if (blockIdx.x == 1 && threadIdx.x == 1) shown[0] = 2;
}

void run(void (*kernel)(uint32_t*), int64_t blocks = 1) {
  Words shown(threads);
  cuda::launch(kernel, blocks, threads, shared_bytes, nullptr, shown.data());
}

#if defined(__SANITIZE_THREAD__)

// Whether ThreadSanitizer reports anything in a hidden test, which runs in its own process.
bool races(const char* test) {
  const pid_t child = fork();
  if (child == 0) {
    for (std::FILE* stream : {stdout, stderr}) {
      if (std::freopen("/dev/null", "w", stream) == nullptr) _exit(1);
    }
    execl("/proc/self/exe", "kernel_tests", test, static_cast<char*>(nullptr));
    _exit(1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  const int code = WEXITSTATUS(status);
  REQUIRE((code == 0 || code == 66));  // 66 is ThreadSanitizer's
  return code == 66;
}

#endif

}  // namespace

TEST_CASE("shim: shared memory that no one has written differs from block to block and from launch to launch") {
  const Words first = shown_shared(2), second = shown_shared(2);
  CHECK(Words(first.begin(), first.begin() + threads) != Words(first.begin() + threads, first.end()));
  CHECK(first != second);
}

TEST_CASE("shim: memory of a workspace and of a layout that no one has written differs from one to the next") {
  ArrayWorkspace workspace;
  const auto taken = [&] {
    const unsigned char* bytes = workspace.take_array<unsigned char>(300);
    return std::vector<unsigned char>(bytes, bytes + 300);
  };
  CHECK(taken() != taken());
  CHECK(garbage_bytes(300) != garbage_bytes(300));
}

TEST_CASE("shim: one seed gives the same garbage again") {
  const uint64_t seed = simt::garbage_state;
  const Words first = shown_shared(2);
  simt::garbage_state = seed;
  CHECK(shown_shared(2) == first);
}

TEST_CASE("shim: an asynchronous copy lands where its thread waits for it, not before") {
  Words given(4 * threads), shown(4 * threads);
  for (size_t k = 0; k < given.size(); ++k) given[k] = static_cast<uint32_t>(k);
  cuda::launch(copy_and_look, 1, threads, 2 * shared_bytes, nullptr, given.data(), shown.data());
  for (uint32_t thread = 0; thread < threads; ++thread) {
    CHECK(shown[thread] != 4 * thread);
    CHECK(shown[threads + thread] != thread);
    CHECK(shown[2 * threads + thread] == 4 * thread);
    CHECK(shown[3 * threads + thread] == thread);
  }
}

// clang-format off
TEST_CASE("shim: a neighbor's number behind a shuffle", "[.]") { run(read_neighbor<Between::shuffle>); }
TEST_CASE("shim: a neighbor's number behind a barrier of the warp", "[.]") { run(read_neighbor<Between::warp_barrier>); }
TEST_CASE("shim: a neighbor's number behind a barrier of the block", "[.]") { run(read_neighbor<Between::block_barrier>); }
TEST_CASE("shim: a number that is overwritten while it is read", "[.]") { run(overwrite_early); }
TEST_CASE("shim: a number that two blocks write", "[.]") { run(write_from_two_blocks, 2); }
// clang-format on

#if defined(__SANITIZE_THREAD__)

TEST_CASE("shim: barriers order memory, and shuffles do not") {
  CHECK(races("shim: a neighbor's number behind a shuffle"));
  CHECK_FALSE(races("shim: a neighbor's number behind a barrier of the warp"));
  CHECK_FALSE(races("shim: a neighbor's number behind a barrier of the block"));
}

TEST_CASE("shim: a barrier orders only what came before it, and only its own block") {
  CHECK(races("shim: a number that is overwritten while it is read"));
  CHECK(races("shim: a number that two blocks write"));
}

#endif
