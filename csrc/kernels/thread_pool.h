// The library's own threads: of native training, of the layout builder and of the C++ tests.
//
// A pool of N threads is the caller of run() and N - 1 workers, started by the first run that needs them.
// Between runs they wait as waiting.h says. A run opens a slot for each thread; a worker takes its own, then
// any that is still open, and so does the caller. So a run never waits for a worker that has not woken up: on a
// machine that is busy with other things the caller does the work itself.
#pragma once

#include <atomic>

#include "parallel.h"

namespace dmf {

// Bodies may throw, as long as no other worker waits for them: all are called, then the exception of the lowest
// worker is thrown again. Runs from several threads take turns; a run inside a body of the same pool is serial.
// A process that was forked while no run was on starts workers of its own.
class ThreadPool final : public Parallel {
 public:
  explicit ThreadPool(int threads) : threads_(threads < 1 ? 1 : threads) {}
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const override { return threads_; }

 protected:
  void run_erased(int workers, ErasedBody body, const void* context) override;

 private:
  class Crew;
  Crew& crew();

  const int threads_;
  std::atomic<Crew*> crew_{nullptr};
};

}  // namespace dmf
