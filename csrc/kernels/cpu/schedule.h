// Schedules threads over the parts of the grid.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "../waiting.h"

namespace dmf {

// Hands out the squares of the grid: row part r meets column part r xor s in step s. A square is ready when its
// row part and its column part have finished the earlier steps, so every row of dA and every column of dB is
// summed in the order of the steps, whichever worker takes the square.
class Schedule {
 public:
  struct Square {
    int64_t row_part, step;
  };

  Schedule(int64_t parts, int workers)
      : parts_(parts), workers_(workers), taken_(parts), rows_(parts), columns_(parts) {}

  // Takes a ready square of the earliest step; `worker` looks among its own row parts first, so that their
  // slices stay in its caches, and helps the others when none is ready. False when all are taken.
  bool take(int worker, Square& square) {
    const int64_t first = parts_ * worker / workers_, last = parts_ * (worker + 1) / workers_;
    bool taken = false;
    finished_.until([&] {
      if (left_ == 0) return true;
      taken = take_from(first, last, square) || take_from(0, parts_, square);
      return taken;
    });
    return taken;
  }

  void finish(const Square& square) {
    columns_[square.row_part ^ square.step] = square.step + 1;
    rows_[square.row_part] = square.step + 1;
    finished_.notify();
  }

 private:
  bool take_from(int64_t first, int64_t last, Square& square) {
    square = {0, parts_};
    for (int64_t row_part = first; row_part < last; ++row_part) {
      const int64_t step = taken_[row_part];
      if (step < square.step && rows_[row_part] == step && columns_[row_part ^ step] == step) {
        square = {row_part, step};
      }
    }
    if (square.step == parts_) return false;
    int64_t expected = square.step;
    if (!taken_[square.row_part].compare_exchange_strong(expected, square.step + 1)) return false;
    --left_;
    return true;
  }

  const int64_t parts_;
  const int workers_;
  std::vector<std::atomic<int64_t>> taken_, rows_, columns_;  // steps taken, finished, finished
  std::atomic<int64_t> left_{parts_ * parts_};
  Waiting finished_;
};

}  // namespace dmf
