// The fixed tree in which sums over blocks of rows are added up: those of the first half and those of the
// second, each added up likewise. With 2^k blocks a rank, a rank's sum is a subtree of the tree over all
// blocks, so that results do not depend on how many ranks share the blocks.
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

// The same for sums that lie in memory, a set of arrays a level, of which there are tree_levels(end - begin):
// set(block, level) puts the sums of a block into the arrays of a level, add(level) adds those of the next
// level to them. The whole sum comes to `level`.
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
