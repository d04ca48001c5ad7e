// Scores of a tile of rows at panels of columns; compiled once per instruction set (DMF_INSTRUCTION_SET).
//
// The scores of a tile at a panel stay in registers from the bias to the last product, as in small_product.h,
// and are compared there with the threshold of each row. Few survive, so the selection costs one comparison per
// vector, and no score is stored. Every score is one sum in the order of the terms.
#include "top_kernels.h"

#include "panel.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {
namespace {

// A bit for every lane of x that is greater than that of y; none where either is NaN.
#if defined(__AVX512F__)
DMF_INLINE uint32_t greater(__m512 x, __m512 y) {
  return _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ);
}
DMF_INLINE uint32_t greater(__m512d x, __m512d y) {
  return _mm512_cmp_pd_mask(x, y, _CMP_GT_OQ);
}
#elif defined(__AVX2__)
DMF_INLINE uint32_t greater(__m256 x, __m256 y) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x, y, _CMP_GT_OQ)));
}
DMF_INLINE uint32_t greater(__m256d x, __m256d y) {
  return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_cmp_pd(x, y, _CMP_GT_OQ)));
}
#else
template <class Lanes>
DMF_INLINE uint32_t greater(Lanes x, Lanes y) {
  uint32_t bits = 0;
  for (unsigned lane = 0; lane < sizeof(x) / sizeof(x[0]); ++lane) {
    bits |= static_cast<uint32_t>(x[lane] > y[lane]) << lane;
  }
  return bits;
}
#endif

template <class T>
struct Tile {
  using V = Vector<T>;
  using Register = typename V::type;
  static constexpr int vectors = 2, columns = vectors * V::width, rows = vector_registers == 32 ? 12 : 6;

  static void scan(const T* tile, const ColumnPanels<T>& panels, int64_t begin, int64_t end,
                   RowScan<T>* scans) {
    for (int64_t panel = begin; panel < end; ++panel) {
      Register score[rows][vectors];
      multiply(tile, panels.numbers + panel * panels.h * columns, panels.bias + panel * columns, panels.h,
               score);
      uint32_t survivors[rows], with_survivors = 0;
      for (int row = 0; row < rows; ++row) {
        const Register threshold = V::broadcast(scans[row].candidates.threshold());
        survivors[row] = 0;
        for (int p = 0; p < vectors; ++p) {
          survivors[row] |= greater(score[row][p], threshold) << (p * V::width);
        }
        survivors[row] &= scans[row].allowed[panel - begin];
        with_survivors |= static_cast<uint32_t>(survivors[row] != 0) << row;
      }
      if (with_survivors != 0) offer(score, survivors, with_survivors, panel, scans);
    }
  }

 private:
  static DMF_INLINE void multiply(const T* left, const T* right, const T* bias, int64_t h,
                                  Register (&sum)[rows][vectors]) {
    for (int row = 0; row < rows; ++row) Panel<T, vectors>::load(bias, sum[row]);
    for (int64_t term = 0; term < h; ++term) {
      Register x[vectors];
      Panel<T, vectors>::load(right, x);
      for (int row = 0; row < rows; ++row) {
        const Register factor = V::broadcast(left[row]);
        for (int p = 0; p < vectors; ++p) sum[row][p] = V::multiply_add(factor, x[p], sum[row][p]);
      }
      left += rows;
      right += columns;
    }
  }

  // All scores are stored before the first call, which would save every register.
  static DMF_INLINE void offer(const Register (&score)[rows][vectors], const uint32_t (&survivors)[rows],
                               uint32_t with_survivors, int64_t panel, RowScan<T>* scans) {
    T numbers[rows][columns];
    for (int row = 0; row < rows; ++row) Panel<T, vectors>::store(numbers[row], score[row]);
    for (; with_survivors != 0; with_survivors &= with_survivors - 1) {
      const int row = __builtin_ctz(with_survivors);
      scans[row].candidates.offer(numbers[row], survivors[row], static_cast<int32_t>(panel * columns));
    }
  }
};

template <class T>
constexpr TopKernels<T> top_kernels = {Tile<T>::rows, Tile<T>::columns, Tile<T>::scan};

}  // namespace

const TopKernels<float> top_kernels_float32 = top_kernels<float>;
const TopKernels<double> top_kernels_float64 = top_kernels<double>;

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
