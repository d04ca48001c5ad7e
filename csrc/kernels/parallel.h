// How kernels ask for threads without knowing who owns them: torch's pool inside an operator,
// std::thread in the layout builder and in the C++ tests.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

namespace dmf {

class Parallel {
 public:
  virtual ~Parallel() = default;

  virtual int threads() const = 0;

  // Calls body(worker) once for every worker in [0, workers), possibly at the same time, possibly one
  // after the other. A body must not throw and must not wait for a worker with a higher number.
  template <class Body>
  void run(int workers, const Body& body) {
    run_erased(
        workers, [](const void* context, int worker) { (*static_cast<const Body*>(context))(worker); }, &body);
  }

 protected:
  using ErasedBody = void (*)(const void* context, int worker);
  virtual void run_erased(int workers, ErasedBody body, const void* context) = 0;
};

class StdThreads final : public Parallel {
 public:
  explicit StdThreads(int threads) : threads_(threads < 1 ? 1 : threads) {}

  int threads() const override { return threads_; }

 protected:
  void run_erased(int workers, ErasedBody body, const void* context) override {
    std::vector<std::thread> others;
    for (int worker = 1; worker < workers; ++worker) others.emplace_back(body, context, worker);
    if (workers > 0) body(context, 0);
    for (std::thread& other : others) other.join();
  }

 private:
  int threads_;
};

}  // namespace dmf
