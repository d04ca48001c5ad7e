// The best columns of one row so far. Columns arrive in increasing order.
//
// For small k they are kept sorted. For large k, up to 2k candidates are collected unsorted, and when the
// buffer is full the best k are selected: a constant number of steps per column for any k.
#pragma once

#include <cstdint>
#include <limits>

#include "../number_types.h"

namespace dmf {

template <class T>
struct Candidate {
  T score;
  int32_t column;
};

template <class T>
class TopCandidates {
 public:
  // For the best k; `room` is for capacity(k, columns) candidates.
  void begin(Candidate<T>* room, int64_t k, int64_t columns);

  static int64_t capacity(int64_t k, int64_t columns);

  // What a score must exceed: later columns lose a tie. NaN and −∞ never do.
  DMF_INLINE T threshold() const { return threshold_; }

  // Adds the columns first_column + p for the bits p of `survivors`, whose scores are scores[p]. Not inline:
  // instruction sets must not have copies of their own.
  void offer(const T* scores, uint32_t survivors, int32_t first_column);

  // Writes the best k, by descending score and, among equal scores, ascending column; -1 and minus infinity if
  // there are fewer.
  void finish(int64_t* columns, T* scores);

 private:
  bool is_sorted() const;
  void insert(Candidate<T> candidate);
  void add(Candidate<T> candidate);
  void keep_best();

  Candidate<T>* candidates_ = nullptr;
  int64_t count_ = 0, capacity_ = 0, k_ = 0;
  T threshold_ = -std::numeric_limits<T>::infinity();
};

}  // namespace dmf
