// Cuts the rows (or columns) of a tile into the groups and bundles that observed_layout.h describes.
#pragma once

#include <cstdint>
#include <vector>

#include "observed_layout.h"

namespace dmf {

// The number of bundles and groups that the lines (rows or columns) of a tile need.
struct LineCounts {
  int64_t lines = 0, bundles = 0, groups = 0;

  // Counts one line of `entries` entries and resets `entries`; does nothing if it is 0.
  void take(int64_t& entries) {
    if (entries == 0) return;
    bundles += lines++ % bundle_lines == 0;
    for (const int size : group_sizes) {
      groups += entries / size;
      entries %= size;
    }
  }
};

// Writes the bundles of lines with counts[line] entries each, and the line of each group. Calls emit(sorted) in
// the order of the groups, with entries numbered line by line.
template <class Emit>
class BundleWriter {
 public:
  BundleWriter(Bundle* bundles, uint16_t* line_of_group, const Emit& emit)
      : bundle_(bundles), line_of_group_(line_of_group), emit_(emit) {}

  void write(const std::vector<int64_t>& counts) {
    Line lines[bundle_lines];
    int filled = 0;
    int64_t start = 0;
    for (size_t line = 0; line < counts.size(); ++line) {
      if (counts[line] == 0) continue;
      lines[filled++] = {static_cast<uint16_t>(line), start, counts[line]};
      start += counts[line];
      if (filled < bundle_lines) continue;
      write_bundle(lines, lines + filled);
      filled = 0;
    }
    if (filled > 0) write_bundle(lines, lines + filled);
  }

 private:
  struct Line {
    uint16_t index;
    int64_t start, count;  // entries that are not written yet
  };

  // The largest groups of this many lines alternate. With fewer, a group would wait for the sums of the
  // previous one; with more, the lines would need more of the L1 cache.
  static constexpr int interleaved_lines = 8;

  void write_bundle(Line* first, Line* last) {
    Bundle bundle{};
    for (Line* line = first; line < last; line += interleaved_lines) {
      Line* next = last - line < interleaved_lines ? last : line + interleaved_lines;
      while (const uint16_t written = write_groups(line, next, group_sizes[0])) bundle.groups[0] += written;
    }
    for (int kind = 1; kind < group_kinds; ++kind) {
      bundle.groups[kind] = write_groups(first, last, group_sizes[kind]);
    }
    *bundle_++ = bundle;
  }

  // One group of every line that has enough entries left.
  uint16_t write_groups(Line* first, Line* last, int size) {
    uint16_t written = 0;
    for (Line* line = first; line < last; ++line) {
      if (line->count < size) continue;
      write_group(*line, size);
      ++written;
    }
    return written;
  }

  void write_group(Line& line, int size) {
    *line_of_group_++ = line.index;
    for (int k = 0; k < size; ++k) emit_(line.start + k);
    line.start += size;
    line.count -= size;
  }

  Bundle* bundle_;
  uint16_t* line_of_group_;
  const Emit& emit_;
};

template <class Emit>
void write_bundles(const std::vector<int64_t>& counts, Bundle* bundles, uint16_t* line_of_group,
                   const Emit& emit) {
  BundleWriter<Emit>(bundles, line_of_group, emit).write(counts);
}

}  // namespace dmf
