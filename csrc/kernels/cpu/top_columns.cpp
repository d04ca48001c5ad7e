#include "top_columns.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <vector>

#include "../aligned_numbers.h"
#include "../instruction_set.h"

namespace dmf {
namespace {

// Below about this many flops, waking other threads costs more than they save.
constexpr double serial_flops = 1e6;
// What a core reads repeatedly must stay in its L2, which a stretch of panels and a block of rows share.
constexpr int64_t stretch_bytes = 512 << 10, block_bytes = 256 << 10;
constexpr int64_t most_tiles = 8;

// The seen columns of a row that lie ahead of a scan.
class SeenAhead {
 public:
  SeenAhead() = default;
  template <class T>
  SeenAhead(const TopColumnsProblem<T>& problem, int64_t row) {
    if (problem.seen_offsets == nullptr) return;
    next_ = problem.seen_columns + problem.seen_offsets[row];
    end_ = problem.seen_columns + problem.seen_offsets[row + 1];
  }

  // Sets a bit for every column of [begin, end) that is not seen; a word covers `width` columns, a power of
  // two.
  void mark(uint32_t* words, int64_t begin, int64_t end, int64_t width) {
    std::fill_n(words, (end - begin) / width, ~uint32_t{0});
    const int shift = __builtin_ctzll(width);  // dividing would take longer than the rest
    for (; next_ != end_ && *next_ < end; ++next_) {
      const int64_t column = *next_ - begin;
      words[column >> shift] &= ~(uint32_t{1} << (column & (width - 1)));
    }
  }

 private:
  const int32_t *next_ = nullptr, *end_ = nullptr;
};

template <class T>
class TopColumns {
 public:
  TopColumns(const TopColumnsProblem<T>& problem, const TopKernels<T>& kernels, int threads)
      : problem_(problem),
        kernels_(kernels),
        workers_(workers_of(threads)),
        width_(kernels.panel_columns),
        panels_((problem.columns + width_ - 1) / width_),
        stretch_(panels_of_stretch()),
        numbers_(panels_ * width_ * problem.h),
        bias_(panels_ * width_),
        capacity_(TopCandidates<T>::capacity(problem.k, problem.columns)),
        block_rows_(rows_of_block()) {}

  void run(Parallel& parallel) {
    const int64_t blocks = (problem_.row_count + block_rows_ - 1) / block_rows_;
    std::vector<Workspace> workspaces;  // allocated here: what workers call must not throw
    for (int64_t worker = 0; worker < std::min(workers_, blocks); ++worker) workspaces.emplace_back(*this);
    const int64_t packers = std::min(workers_, panels_);
    parallel.run(static_cast<int>(packers), [&](int packer) {
      const int64_t end = panels_ * (packer + 1) / packers;
      for (int64_t panel = panels_ * packer / packers; panel < end; ++panel) pack_panel(panel);
    });
    // Rows do not depend on each other: a free worker takes the next block.
    std::atomic<int64_t> next{0};
    parallel.run(static_cast<int>(workspaces.size()), [&](int worker) {
      for (int64_t block = next++; block < blocks; block = next++) {
        const int64_t begin = block * block_rows_;
        find(begin, std::min(begin + block_rows_, problem_.row_count), workspaces[worker]);
      }
    });
  }

 private:
  // Rows of a block, tile after tile as the kernels read them.
  struct Workspace {
    AlignedNumbers<T> tiles;
    std::unique_ptr<Candidate<T>[]> candidates;
    std::unique_ptr<uint32_t[]> allowed;
    std::vector<RowScan<T>> scans;
    std::vector<SeenAhead> seen;

    explicit Workspace(const TopColumns& top)
        : tiles(top.block_rows_ * top.problem_.h),
          candidates(new Candidate<T>[top.block_rows_ * top.capacity_]),
          allowed(new uint32_t[top.block_rows_ * top.stretch_]),
          scans(top.block_rows_),
          seen(top.block_rows_) {}
  };

  int64_t workers_of(int threads) const {
    const double flops = 2.0 * static_cast<double>(problem_.row_count) * static_cast<double>(problem_.columns) *
                         static_cast<double>(problem_.h);
    return flops < serial_flops ? 1 : threads;
  }

  int64_t panels_of_stretch() const {
    const int64_t panel_bytes = width_ * problem_.h * static_cast<int64_t>(sizeof(T));
    return std::min(panels_, std::max<int64_t>(1, stretch_bytes / panel_bytes));
  }

  // Whole tiles: as many as fit, but few enough that every worker gets some.
  int64_t rows_of_block() const {
    const int64_t row_bytes =
        problem_.h * static_cast<int64_t>(sizeof(T)) + capacity_ * static_cast<int64_t>(sizeof(Candidate<T>));
    const int64_t share = problem_.row_count / (workers_ * kernels_.tile_rows);
    const int64_t tiles = std::min({most_tiles, share, block_bytes / (row_bytes * kernels_.tile_rows)});
    return std::max<int64_t>(1, tiles) * kernels_.tile_rows;
  }

  void pack_panel(int64_t panel) const {
    const int64_t first = panel * width_, count = std::min(width_, problem_.columns - first);
    T* to = numbers_.data() + first * problem_.h;
    for (int64_t v = 0; v < problem_.h; ++v, to += width_) {
      std::copy_n(problem_.b + v * problem_.columns + first, count, to);
    }
    T* bias = bias_.data() + first;
    if (problem_.column_bias != nullptr) std::copy_n(problem_.column_bias + first, count, bias);
    std::fill(bias + count, bias + width_, -std::numeric_limits<T>::infinity());
  }

  // Rows [begin, end) of the requested ones.
  void find(int64_t begin, int64_t end, Workspace& work) const {
    const int64_t rows = end - begin, height = kernels_.tile_rows, tiles = (rows + height - 1) / height;
    for (int64_t row = 0; row < tiles * height; ++row) start_row(begin + row, row, work);
    const ColumnPanels<T> panels{numbers_.data(), bias_.data(), problem_.h};
    for (int64_t panel = 0; panel < panels_; panel += stretch_) {
      const int64_t panel_end = std::min(panel + stretch_, panels_);
      for (int64_t row = 0; row < tiles * height; ++row) {
        work.seen[row].mark(work.scans[row].allowed, panel * width_, panel_end * width_, width_);
      }
      for (int64_t tile = 0; tile < tiles; ++tile) {
        kernels_.scan(work.tiles.data() + tile * height * problem_.h, panels, panel, panel_end,
                      work.scans.data() + tile * height);
      }
    }
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t place = (begin + row) * problem_.k;
      work.scans[row].candidates.finish(problem_.best_columns + place, problem_.best_scores + place);
    }
  }

  // Puts one row into its tile. Rows past the last one repeat it; their results are not written.
  void start_row(int64_t asked, int64_t row, Workspace& work) const {
    const int64_t height = kernels_.tile_rows;
    const int64_t index = problem_.rows[std::min(asked, problem_.row_count - 1)];
    const T* from = problem_.a + index * problem_.h;
    T* to = work.tiles.data() + row / height * height * problem_.h + row % height;
    for (int64_t v = 0; v < problem_.h; ++v) to[v * height] = from[v];
    work.scans[row].candidates.begin(work.candidates.get() + row * capacity_, problem_.k, problem_.columns);
    work.scans[row].allowed = work.allowed.get() + row * stretch_;
    work.seen[row] = SeenAhead(problem_, index);
  }

  const TopColumnsProblem<T>& problem_;
  const TopKernels<T>& kernels_;
  const int64_t workers_, width_, panels_, stretch_;
  const AlignedNumbers<T> numbers_, bias_;
  const int64_t capacity_, block_rows_;
};

}  // namespace

template <class T>
void top_columns(const TopColumnsProblem<T>& problem, Parallel& parallel) {
  // Read once, since another thread may switch kernels meanwhile.
  if (problem.row_count == 0) return;
  TopColumns<T>(problem, active_top_kernels<T>(), parallel.threads()).run(parallel);
}

template void top_columns<float>(const TopColumnsProblem<float>& problem, Parallel& parallel);
template void top_columns<double>(const TopColumnsProblem<double>& problem, Parallel& parallel);

}  // namespace dmf
