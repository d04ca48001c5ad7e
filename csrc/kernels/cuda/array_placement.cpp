#include "array_placement.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace dmf::cuda {
namespace {

// The lowest offset, at least `begin`, at which array `chosen` overlaps no other array while it is live.
int64_t lowest_offset(const std::vector<ArrayUse>& arrays, const std::vector<Place>& places,
                      const std::vector<size_t>& earlier, size_t chosen, bool shared, int64_t begin) {
  const ArrayUse& own = arrays[chosen];
  std::vector<std::pair<int64_t, int64_t>> taken;
  for (const size_t other : earlier) {
    const ArrayUse& use = arrays[other];
    if ((places[other].shared != 0) != shared || use.last < own.first || own.last < use.first) continue;
    taken.emplace_back(places[other].offset, places[other].offset + aligned(use.bytes));
  }
  std::sort(taken.begin(), taken.end());
  int64_t offset = aligned(begin);
  for (const auto& [first, end] : taken) {
    if (offset + own.bytes <= first) break;
    offset = std::max(offset, end);
  }
  return offset;
}

}  // namespace

Placement place_arrays(const std::vector<ArrayUse>& arrays, int64_t shared_begin, int64_t shared_limit,
                       int64_t memory_begin) {
  std::vector<size_t> order(arrays.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t one, size_t other) { return arrays[one].reads > arrays[other].reads; });
  Placement result{std::vector<Place>(arrays.size()), aligned(shared_begin), aligned(memory_begin)};
  std::vector<size_t> earlier;
  for (const size_t chosen : order) {
    const ArrayUse& use = arrays[chosen];
    int64_t offset = lowest_offset(arrays, result.places, earlier, chosen, true, shared_begin);
    const bool shared = offset + aligned(use.bytes) <= shared_limit;
    if (!shared) {
      offset = use.home != no_home ? use.home
                                   : lowest_offset(arrays, result.places, earlier, chosen, false, memory_begin);
    }
    int64_t& bytes = shared ? result.shared_bytes : result.memory_bytes;
    bytes = std::max(bytes, offset + aligned(use.bytes));
    result.places[chosen] = Place{static_cast<int32_t>(offset), shared};
    earlier.push_back(chosen);
  }
  return result;
}

}  // namespace dmf::cuda
