#include "../kernels/thread_pool.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace dmf;

namespace {

// How often a run calls each worker; plain numbers, so that a lost or repeated call is also a race.
std::vector<int> calls_of(Parallel& pool, int workers) {
  std::vector<int> calls(workers, 0);
  pool.run(workers, [&](int worker) { ++calls[worker]; });
  return calls;
}

void pass(std::chrono::microseconds time) {
  std::this_thread::sleep_for(time);
}

}  // namespace

TEST_CASE("a run calls every worker once, however many threads there are") {
  for (const int threads : {0, 1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == std::max(threads, 1));
    for (const int workers : {0, 1, 2, 3, 8, 50})
      CHECK(calls_of(pool, workers) == std::vector<int>(workers, 1));
  }
}

TEST_CASE("runs follow one another without losing a call, from spinning and from sleeping workers") {
  ThreadPool pool(3);
  std::vector<int> sums(3, 0);
  for (int run = 0; run < 3000; ++run) {
    if (run % 500 == 0) pass(std::chrono::milliseconds(1));
    pool.run(3, [&](int worker) { sums[worker] += run; });
    REQUIRE(sums == std::vector<int>(3, run * (run + 1) / 2));
  }
}

TEST_CASE("workers of a run work at the same time") {
  ThreadPool pool(2);
  std::atomic<int> started{0};
  pool.run(2, [&](int) {
    ++started;
    while (started < 2) std::this_thread::yield();
  });
  CHECK(started == 2);
}

TEST_CASE("a caller waits for a body that takes long") {
  ThreadPool pool(2);
  std::atomic<bool> started{false};
  int done = 0;
  pool.run(2, [&](int worker) {
    if (worker == 0) {
      while (!started) std::this_thread::yield();
    } else {
      started = true;
      pass(std::chrono::milliseconds(5));
      done = 1;
    }
  });
  CHECK(done == 1);
}

TEST_CASE("all workers are called before the first exception is thrown again, and the pool stays usable") {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::vector<int> calls(3, 0);
    const auto body = [&](int worker) {
      ++calls[worker];
      if (worker > 0) throw std::runtime_error("worker " + std::to_string(worker));
    };
    CHECK_THROWS_WITH(pool.run(3, body), "worker 1");
    CHECK(calls == std::vector<int>(3, 1));
    CHECK(calls_of(pool, 3) == std::vector<int>(3, 1));
  }
}

TEST_CASE("a run inside a body of the same pool is serial") {
  ThreadPool pool(3);
  std::vector<int> inner(9, 0);
  std::atomic<int> elsewhere{0};
  pool.run(3, [&](int worker) {
    const std::thread::id outside = std::this_thread::get_id();
    pool.run(3, [&, worker](int nested) {
      ++inner[3 * worker + nested];
      if (std::this_thread::get_id() != outside) ++elsewhere;
    });
  });
  CHECK(inner == std::vector<int>(9, 1));
  CHECK(elsewhere == 0);
}

TEST_CASE("runs from two threads on one pool take turns") {
  ThreadPool pool(2);
  int shared[2] = {0, 0};
  const auto many_runs = [&] {
    for (int run = 0; run < 500; ++run) pool.run(2, [&](int worker) { ++shared[worker]; });
  };
  std::thread other(many_runs);
  many_runs();
  other.join();
  CHECK(shared[0] == 1000);
  CHECK(shared[1] == 1000);
}

TEST_CASE("a pool ends whether it ran or not, and at once after a run") {
  for (int n = 0; n < 50; ++n) {
    ThreadPool never(4);
    ThreadPool once(4);
    CHECK(calls_of(once, 4) == std::vector<int>(4, 1));
  }
}

#if !defined(__SANITIZE_THREAD__)  // does not support threads in a forked process
TEST_CASE("a forked process runs the pool with workers of its own") {
  ThreadPool pool(3);
  REQUIRE(calls_of(pool, 3) == std::vector<int>(3, 1));
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    std::atomic<int> started{0};
    pool.run(2, [&](int) {
      ++started;
      while (started < 2) std::this_thread::yield();
    });
    pool.~ThreadPool();
    _exit(started == 2 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(calls_of(pool, 3) == std::vector<int>(3, 1));
}
#endif
