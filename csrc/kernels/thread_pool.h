// The library's own threads, for native training, layout building and the C++ tests.
//
// A pool of N threads consists of the caller of run() and N - 1 workers, started by the first run that needs
// them. Between runs they wait (waiting.h). A run opens a slot for each thread; a worker takes its own, then
// any that is still open, and so does the caller. So a run never waits for a worker that has not woken up: on a
// busy machine the caller does the work itself.
#pragma once

#include <atomic>

#include "parallel.h"

namespace dmf {

// Bodies may throw, as long as no other worker waits for them: all are called, then the exception of the lowest
// worker is rethrown. Runs from several threads take turns; a run inside a body of the same pool is serial. A
// process that was forked between runs starts its own workers.
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
