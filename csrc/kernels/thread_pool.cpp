#include "thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "waiting.h"

namespace dmf {
namespace {

// The number of forks between the first process and this one: threads do not survive a fork.
int forks = 0;
[[maybe_unused]] const int forks_counted = pthread_atfork(nullptr, nullptr, [] { ++forks; });

// The pool whose body this thread runs.
thread_local const ThreadPool* inside = nullptr;

}  // namespace

// The workers of a pool in one process.
class ThreadPool::Crew {
 public:
  Crew(const ThreadPool& pool, int threads) : pool_(pool), slots_(threads) {}

  ~Crew() {
    stopping_ = true;
    idle_.notify();
    for (std::thread& worker : workers_) worker.join();
  }

  bool is_of_this_process() const { return forks_ == forks; }

  void run(int workers, ErasedBody body, const void* context) {
    const std::lock_guard<std::mutex> turn(turn_);
    start();
    workers_wanted_ = workers;
    body_ = body;
    context_ = context;
    thrown_.assign(workers, nullptr);
    const int slots = std::min<int>(workers, static_cast<int>(slots_.size()));
    unfinished_ = slots;
    for (int slot = 0; slot < slots; ++slot) slots_[slot].open = true;
    ++calls_;
    idle_.notify();
    take_slots(0);
    done_.until([this] { return unfinished_ == 0; });
    for (std::exception_ptr& exception : thrown_) {
      if (exception) std::rethrow_exception(std::exchange(exception, nullptr));
    }
  }

 private:
  struct alignas(64) Slot {
    std::atomic<bool> open{false};
  };

  void start() {
    if (started_) return;
    started_ = true;
    try {
      for (int slot = 1; slot < static_cast<int>(slots_.size()); ++slot) {
        workers_.emplace_back([this, slot] { work(slot); });
      }
    } catch (const std::system_error&) {
      // The system refuses more threads: the others do the work.
    }
  }

  void work(int slot) {
    for (int64_t seen = 0; !stopping_;) {
      idle_.until([&] { return calls_ != seen || stopping_; });
      seen = calls_;
      take_slots(slot);
    }
  }

  // The thread that closes a slot runs it, even if it woke up for an earlier run.
  void take_slots(int own) {
    const int slots = static_cast<int>(slots_.size());
    for (int n = 0; n < slots; ++n) {
      const int slot = own + n < slots ? own + n : own + n - slots;
      if (!slots_[slot].open.load() || !slots_[slot].open.exchange(false)) continue;
      for (int worker = slot; worker < workers_wanted_; worker += slots) call(worker);
      if (--unfinished_ == 0) done_.notify();
    }
  }

  void call(int worker) {
    const ThreadPool* const outside = inside;
    inside = &pool_;
    try {
      body_(context_, worker);
    } catch (...) {
      thrown_[worker] = std::current_exception();
    }
    inside = outside;
  }

  const ThreadPool& pool_;
  const int forks_ = forks;
  std::mutex turn_;
  bool started_ = false;
  std::vector<std::thread> workers_;

  // The current run: written before its slots open, read by threads that have closed one.
  int workers_wanted_ = 0;
  ErasedBody body_ = nullptr;
  const void* context_ = nullptr;
  std::vector<std::exception_ptr> thrown_;

  std::vector<Slot> slots_;
  std::atomic<int> unfinished_{0};
  std::atomic<int64_t> calls_{0};
  std::atomic<bool> stopping_{false};
  Waiting idle_, done_;
};

// A crew of the parent process is left alone: its threads do not exist here, and its locks may be held.
ThreadPool::~ThreadPool() {
  const Crew* crew = crew_.load();
  if (crew != nullptr && crew->is_of_this_process()) delete crew;
}

ThreadPool::Crew& ThreadPool::crew() {
  Crew* crew = crew_.load();
  if (crew != nullptr && crew->is_of_this_process()) return *crew;
  Crew* made = new Crew(*this, threads_);
  if (crew_.compare_exchange_strong(crew, made)) return *made;
  delete made;  // another thread was first
  return *crew;
}

void ThreadPool::run_erased(int workers, ErasedBody body, const void* context) {
  if (workers > 1 && threads_ > 1 && inside != this) return crew().run(workers, body, context);
  std::exception_ptr first;
  for (int worker = 0; worker < workers; ++worker) {
    try {
      body(context, worker);
    } catch (...) {
      if (!first) first = std::current_exception();
    }
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace dmf
