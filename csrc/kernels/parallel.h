// How kernels ask for threads without knowing who owns them: torch's pool inside an operator,
// std::thread in the layout builder and in the C++ tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace dmf {

class Parallel {
 public:
  virtual ~Parallel() = default;

  virtual int threads() const = 0;

  // Calls body(worker) once for every worker in [0, workers), possibly at the same time, possibly one
  // after the other. A body may wait only for work that a running worker has already taken; it may throw
  // only where this class says so.
  template <class Body>
  void run(int workers, const Body& body) {
    run_erased(
        workers, [](const void* context, int worker) { (*static_cast<const Body*>(context))(worker); }, &body);
  }

 protected:
  using ErasedBody = void (*)(const void* context, int worker);
  virtual void run_erased(int workers, ErasedBody body, const void* context) = 0;
};

// Workers share items [0, items) by contiguous slices, so results never depend on timing.
template <class Body>
void for_slices(Parallel& parallel, int64_t items, const Body& body) {
  const int workers = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(parallel.threads(), items)));
  parallel.run(workers,
               [&](int worker) { body(worker, items * worker / workers, items * (worker + 1) / workers); });
}

// Bodies may throw, as long as no other worker waits for them: all workers are joined, then the first
// exception is thrown again.
class StdThreads final : public Parallel {
 public:
  explicit StdThreads(int threads) : threads_(threads < 1 ? 1 : threads) {}

  int threads() const override { return threads_; }

 protected:
  void run_erased(int workers, ErasedBody body, const void* context) override {
    std::vector<std::exception_ptr> thrown(workers);
    const auto guarded = [&thrown, body, context](int worker) {
      try {
        body(context, worker);
      } catch (...) {
        thrown[worker] = std::current_exception();
      }
    };
    std::vector<std::thread> others;
    others.reserve(workers);
    int worker = 1;
    try {
      for (; worker < workers; ++worker) others.emplace_back(guarded, worker);
    } catch (const std::system_error&) {
      // The system gives no more threads: this one does the rest.
    }
    if (workers > 0) guarded(0);
    for (; worker < workers; ++worker) guarded(worker);
    for (std::thread& other : others) other.join();
    for (const std::exception_ptr& exception : thrown) {
      if (exception) std::rethrow_exception(exception);
    }
  }

 private:
  int threads_;
};

}  // namespace dmf
