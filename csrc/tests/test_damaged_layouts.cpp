// A corrupted layout is refused, or passes over it stay inside the arrays that its header declares. The
// sanitizers detect accesses outside them.
#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "../kernels/cpu/dense.h"
#include "../kernels/cpu/sweep.h"
#include "problems.h"

using namespace dmf;
using namespace dmf::test;

namespace {

// One change of a layout's bytes, or a few.
class Mutator {
 public:
  Mutator(const std::vector<char>& good, unsigned seed) : good_(good), generator_(seed) {}

  std::vector<char> next() {
    std::vector<char> bytes = good_;
    switch (below(6)) {
      case 0:
        put(bytes, 8 * below(sizeof(LayoutHeader) / 8), word());
        break;
      case 1:
        put(bytes, 8 * below(bytes.size() / 8), word());
        break;
      case 2:
        put(bytes, 2 * below(bytes.size() / 2), static_cast<uint16_t>(word()));
        break;
      case 3:
        for (size_t flips = 1 + below(4); flips > 0; --flips) {
          bytes[below(bytes.size())] ^= static_cast<char>(1 << below(8));
        }
        break;
      case 4: {  // a piece of it replaces another
        const size_t length = 1 + below(200), from = below(bytes.size() - length),
                     to = below(bytes.size() - length);
        std::memmove(bytes.data() + to, bytes.data() + from, length);
        break;
      }
      default:  // truncated, possibly with a matching header
        bytes.resize(sizeof(LayoutHeader) + 8 * below((bytes.size() - sizeof(LayoutHeader)) / 8));
        if (below(2) == 0) put(bytes, offsetof(LayoutHeader, bytes), static_cast<int64_t>(bytes.size()));
    }
    return bytes;
  }

 private:
  size_t below(size_t count) { return generator_() % count; }

  template <class Number>
  static void put(std::vector<char>& bytes, size_t at, Number number) {
    std::memcpy(bytes.data() + at, &number, sizeof number);
  }

  // Near the ends of ranges, near the current value, or anything.
  int64_t word() {
    constexpr int64_t ends[] = {0, 1, 1 << 15, 1 << 16, int64_t{1} << 31, int64_t{1} << 40, int64_t{1} << 62};
    if (below(3) == 0) return static_cast<int64_t>(generator_());
    int64_t number = ends[below(std::size(ends))];
    if (below(2) == 0) std::memcpy(&number, good_.data() + 8 * below(good_.size() / 8), sizeof number);
    const auto near = static_cast<uint64_t>(number) + below(3) - 1;
    return static_cast<int64_t>(below(4) == 0 ? ~near : near);
  }

  const std::vector<char>& good_;
  std::mt19937_64 generator_;
};

// Every pass that reads a layout; false where one refuses it.
class Passes {
 public:
  Passes(const LayoutView& layout, Parallel& parallel) : layout_(layout), parallel_(parallel) {}

  bool run() {
    const LayoutHeader& header = *layout_.header;
    const std::vector<float> a(header.rows * h, 1), b(header.columns * h, 1), values(header.nnz, 1),
        dense(header.rows * header.columns, 1);
    std::vector<float> gradient_a(a.size()), gradient_b(b.size()), products(header.nnz), gradient(dense.size());
    Operands operands;
    operands.a = a.data();
    operands.b_transposed = b.data();
    operands.h = h;
    operands.values = operands.weights = operands.coefficients = values.data();
    operands.products = products.data();
    operands.gradient_a = gradient_a.data();
    operands.gradient_b_transposed = gradient_b.data();
    DenseOperands formed;
    formed.dense = dense.data();
    formed.values = values.data();
    formed.gradient = gradient.data();
    bool all = true;
    for (const Task task : {Task::product, Task::loss, Task::loss_gradients, Task::gradients}) {
      all &= passes([&] { sweep(layout_, task, Dtype::float32, operands, parallel_); });
    }
    all &= passes([&] { dense_loss(layout_, Dtype::float32, formed, parallel_); });
    all &= passes([&] { gather_observed(layout_, dense.data(), products.data(), 4, parallel_); });
    all &= passes([&] { scatter_observed(layout_, values.data(), gradient.data(), 4, parallel_); });
    all &= passes([&] { order_as_given(layout_, values.data(), products.data(), 4, parallel_); });
    return all;
  }

 private:
  static constexpr int64_t h = 5;

  template <class Body>
  static bool passes(const Body& body) {
    try {
      body();
    } catch (const std::invalid_argument&) {
      return false;
    }
    return true;
  }

  const LayoutView layout_;
  Parallel& parallel_;
};

}  // namespace

TEST_CASE("a damaged layout is refused or harmless") {
  const std::vector<char> good = build_layout(random_pattern(90, 70, 700, 1.5, 1), {16, 32}, 1);
  REQUIRE(view_layout(good.data(), good.size()).header->stripes > 1);
  Mutator mutator(good, 1);
  ThreadPool one(1), two(2);
  int unread = 0, refused = 0, run = 0;
  for (int attempt = 0; attempt < 1200; ++attempt) {
    const std::vector<char> bytes = mutator.next();
    const LayoutView layout = view_layout(bytes.data(), static_cast<int64_t>(bytes.size()));
    // Operators compare the sizes with those of their tensors.
    constexpr int64_t most_lines = 1000;
    if (layout.header == nullptr || layout.header->rows > most_lines || layout.header->columns > most_lines) {
      ++unread;
      continue;
    }
    INFO("attempt " << attempt);
    const bool sound = entries_are_sound(layout, two);
    // Places that occur twice are written by two threads at once.
    const bool passed = Passes(layout, sound ? two : one).run();
    ++(passed ? run : refused);
    if (!sound) continue;
    REQUIRE(passed);
    std::vector<int64_t> rows(layout.header->nnz), columns(layout.header->nnz);
    decode_layout(layout, rows.data(), columns.data(), two);
    REQUIRE(std::all_of(rows.begin(), rows.end(), [&](int64_t row) { return row < layout.header->rows; }));
  }
  CHECK(unread > 100);
  CHECK(refused > 100);
  CHECK(run > 100);
}
