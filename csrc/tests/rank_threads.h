// Threads that act as the ranks of a run.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "../kernels/block_tree.h"
#include "../kernels/ranks.h"
#include "problems.h"

namespace dmf::test {

// Where ranks meet to add up their vectors, by pairs of neighbors. Throws once a rank has failed.
class Meeting {
 public:
  explicit Meeting(int ranks) : vectors_(ranks) {}

  void sum(int rank, const std::vector<RankVector>& vectors) {
    vectors_[rank] = &vectors;
    wait();
    std::vector<Numbers> sums;  // in double, but rounded to the type after every addition
    for (size_t place = 0; place < vectors.size(); ++place) sums.push_back(sum_of(place));
    wait();
    for (size_t place = 0; place < vectors.size(); ++place) {
      for (int64_t k = 0; k < vectors[place].count; ++k) write(vectors[place], k, sums[place][k]);
    }
  }

  void fail() {
    const std::lock_guard<std::mutex> lock(mutex_);
    failed_ = true;
    all_here_.notify_all();
  }

 private:
  struct Sum {
    Dtype dtype;
    Numbers numbers;
    Sum& operator+=(const Sum& other) {
      for (size_t k = 0; k < numbers.size(); ++k) {
        const double sum = numbers[k] + other.numbers[k];
        numbers[k] = dtype == Dtype::float64 ? sum : static_cast<float>(sum);
      }
      return *this;
    }
  };

  Numbers sum_of(size_t place) const {
    return sum_in_tree(0, static_cast<int64_t>(vectors_.size()),
                       [&](int64_t rank) {
                         const RankVector& vector = vectors_[rank]->at(place);
                         Sum sum{vector.dtype, {}};
                         for (int64_t k = 0; k < vectors_[0]->at(place).count; ++k)
                           sum.numbers.push_back(read(vector, k));
                         return sum;
                       })
        .numbers;
  }

  static double read(const RankVector& vector, int64_t k) {
    return vector.dtype == Dtype::float64 ? static_cast<double*>(vector.numbers)[k]
                                          : static_cast<float*>(vector.numbers)[k];
  }
  static void write(const RankVector& vector, int64_t k, double number) {
    if (vector.dtype == Dtype::float64) {
      static_cast<double*>(vector.numbers)[k] = number;
    } else {
      static_cast<float*>(vector.numbers)[k] = static_cast<float>(number);
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int round = round_;
    if (++waiting_ == static_cast<int>(vectors_.size())) {
      waiting_ = 0;
      ++round_;
      all_here_.notify_all();
    }
    all_here_.wait(lock, [&] { return failed_ || round_ != round; });
    if (round_ == round) throw std::runtime_error("another rank has failed");
  }

  std::vector<const std::vector<RankVector>*> vectors_;
  std::mutex mutex_;
  std::condition_variable all_here_;
  int waiting_ = 0, round_ = 0;
  bool failed_ = false;
};

class ThreadRank final : public Ranks {
 public:
  ThreadRank(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
  void sum(const std::vector<RankVector>& vectors) override { meeting_.sum(rank_, vectors); }

 private:
  Meeting& meeting_;
  const int rank_;
};

// Calls body(rank, ranks) for every rank in a thread of its own; rethrows the exception of the lowest of them.
inline void on_ranks(int count, const std::function<void(int, Ranks&)>& body) {
  Meeting meeting(count);
  std::vector<std::exception_ptr> errors(count);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadRank ranks(meeting, rank);
      try {
        body(rank, ranks);
      } catch (...) {
        errors[rank] = std::current_exception();
        meeting.fail();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error != nullptr) std::rethrow_exception(error);
  }
}

}  // namespace dmf::test
