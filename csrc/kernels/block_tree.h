// Pairwise summation over blocks of rows in a fixed tree: the sum of the first half plus the sum of the second,
// each computed likewise. With 2^k blocks per rank, the sum of a rank is a subtree of the tree over all blocks,
// so that results do not depend on the number of ranks that share the blocks.
#pragma once

#include <cstdint>

namespace dmf {

// Σ of_block(block) over the blocks [begin, end).
template <class OfBlock>
auto sum_in_tree(int64_t begin, int64_t end, const OfBlock& of_block) {
  if (end - begin == 1) return of_block(begin);
  const int64_t middle = begin + (end - begin) / 2;
  auto sum = sum_in_tree(begin, middle, of_block);
  sum += sum_in_tree(middle, end, of_block);
  return sum;
}

// The same for sums in memory, with one set of arrays for each of the tree_levels(end - begin) levels:
// set(block, level) writes the sums of a block to the arrays of a level, add(level) adds those of the next
// level to them. The total goes to `level`.
template <class Set, class Add>
void walk_tree(int64_t begin, int64_t end, int level, const Set& set, const Add& add) {
  if (end - begin == 1) return set(begin, level);
  const int64_t middle = begin + (end - begin) / 2;
  walk_tree(begin, middle, level, set, add);
  walk_tree(middle, end, level + 1, set, add);
  add(level);
}

inline int tree_levels(int64_t blocks) {
  int levels = 1;
  for (; blocks > 1; blocks -= blocks / 2) ++levels;
  return levels;
}

}  // namespace dmf
