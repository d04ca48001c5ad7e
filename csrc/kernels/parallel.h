// The interface through which kernels use threads: torch's pool inside an operator (TorchThreads), the
// library's own pool everywhere else (ThreadPool).
#pragma once

#include <algorithm>
#include <cstdint>

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

}  // namespace dmf
