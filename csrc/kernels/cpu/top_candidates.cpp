#include "top_candidates.h"

#include <algorithm>

namespace dmf {
namespace {

// Above this k, moving half of the sorted ones takes longer than selecting the best of twice as many.
constexpr int64_t most_sorted = 64;

template <class T>
bool is_better(const Candidate<T>& x, const Candidate<T>& y) {
  return x.score > y.score || (x.score == y.score && x.column < y.column);
}

}  // namespace

template <class T>
int64_t TopCandidates<T>::capacity(int64_t k, int64_t columns) {
  if (k <= most_sorted) return k;
  return k < columns / 2 ? 2 * k : columns;
}

template <class T>
void TopCandidates<T>::begin(Candidate<T>* room, int64_t k, int64_t columns) {
  candidates_ = room;
  count_ = 0;
  capacity_ = capacity(k, columns);
  k_ = k;
  threshold_ = -std::numeric_limits<T>::infinity();
}

template <class T>
void TopCandidates<T>::offer(const T* scores, uint32_t survivors, int32_t first_column) {
  for (; survivors != 0; survivors &= survivors - 1) {
    const int place = __builtin_ctz(survivors);
    // The threshold may have risen since these survived.
    if (!(scores[place] > threshold_)) continue;
    const Candidate<T> candidate{scores[place], first_column + place};
    is_sorted() ? insert(candidate) : add(candidate);
  }
}

template <class T>
void TopCandidates<T>::finish(int64_t* columns, T* scores) {
  if (!is_sorted()) {
    keep_best();
    std::sort(candidates_, candidates_ + count_, is_better<T>);
  }
  for (int64_t place = 0; place < k_; ++place) {
    const bool is_there = place < count_;
    columns[place] = is_there ? candidates_[place].column : -1;
    scores[place] = is_there ? candidates_[place].score : -std::numeric_limits<T>::infinity();
  }
}

template <class T>
bool TopCandidates<T>::is_sorted() const {
  return k_ <= most_sorted;
}

// After those with an equal score, whose columns are lower. When all k places are taken, the last one is
// dropped.
template <class T>
void TopCandidates<T>::insert(Candidate<T> candidate) {
  int64_t place = count_ < k_ ? count_++ : k_ - 1;
  for (; place > 0 && candidates_[place - 1].score < candidate.score; --place) {
    candidates_[place] = candidates_[place - 1];
  }
  candidates_[place] = candidate;
  if (count_ == k_) threshold_ = candidates_[k_ - 1].score;
}

template <class T>
void TopCandidates<T>::add(Candidate<T> candidate) {
  candidates_[count_++] = candidate;
  if (count_ == capacity_) keep_best();
}

template <class T>
void TopCandidates<T>::keep_best() {
  if (count_ <= k_) return;
  std::nth_element(candidates_, candidates_ + k_ - 1, candidates_ + count_, is_better<T>);
  count_ = k_;
  threshold_ = candidates_[k_ - 1].score;
}

template class TopCandidates<float>;
template class TopCandidates<double>;

}  // namespace dmf
