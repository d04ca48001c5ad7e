// How a thread waits for another: it spins briefly, then yields for a while, then sleeps. A wait of a few
// microseconds needs no system call, a wait within a step does not sleep, since waking up may take 100 µs on a
// virtual machine, and a longer one does not occupy a core that other processes need.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace dmf {

class Waiting {
 public:
  // Returns once holds() is true. What it reads must be atomic and sequentially consistent, and writes to it
  // must be followed by notify(): then either the waiter sees the change or the notifier sees the waiter.
  template <class Condition>
  void until(const Condition& holds) {
    if (spin(holds)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleepers_;
    changed_.wait(lock, holds);
    --sleepers_;
  }

  void notify() {
    if (sleepers_.load() == 0) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_all();
  }

 private:
  // Longer than the gap between two parts of a step, and than a block of a sweep; far shorter than a time
  // slice.
  static constexpr std::chrono::microseconds spinning{30}, yielding{1000};

  template <class Condition>
  static bool spin(const Condition& holds) {
    if (holds()) return true;
    const auto begin = std::chrono::steady_clock::now();
    for (;;) {
      const auto waited = std::chrono::steady_clock::now() - begin;
      if (waited > yielding) return false;
      if (waited > spinning) std::this_thread::yield();
      for (int look = 0; look < 8; ++look) {
        if (holds()) return true;
        pause();
      }
    }
  }

  static void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<int> sleepers_{0};
};

}  // namespace dmf
