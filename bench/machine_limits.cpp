// What this machine can do at best: fused multiply-adds in registers, with operands from L1, and reading
// memory. Compiled by bench/machine.py for the processor it runs on.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int width = 16;
#elif defined(__AVX__)
constexpr int width = 8;
#else
constexpr int width = 4;
#endif
typedef float Vector __attribute__((vector_size(width * 4)));

// Aligned to cache lines: std::vector drops the alignment of a vector type.
class Numbers {
 public:
  explicit Numbers(int64_t vectors)
      : memory_(static_cast<Vector*>(std::aligned_alloc(64, (vectors * sizeof(Vector) + 63) / 64 * 64)),
                std::free) {
    for (int64_t v = 0; v < vectors; ++v) memory_.get()[v] = Vector{} + 1e-3f;
  }
  const Vector* data() const { return memory_.get(); }

 private:
  std::unique_ptr<Vector, decltype(&std::free)> memory_;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Makes the compiler compute the sums, without storing them in the loop that adds to them.
template <int count>
void keep(const Vector (&sum)[count]) {
  Vector total = sum[0];
  for (int k = 1; k < count; ++k) total += sum[k];
  float number = 0;
  for (int lane = 0; lane < width; ++lane) number += total[lane];
  volatile float kept = number;
  static_cast<void>(kept);
}

template <class Body>
double seconds_of(int threads, const Body& body) {
  const double start = now();
  std::vector<std::thread> pool;
  for (int thread = 0; thread < threads; ++thread) pool.emplace_back(body, thread);
  for (std::thread& one : pool) one.join();
  return now() - start;
}

}  // namespace

// Flops per second of independent fused multiply-adds on all threads.
extern "C" double fma_peak(int threads, int64_t iterations) {
  constexpr int chains = 12;  // more than latency × units of any current processor's registers allow
  const double seconds = seconds_of(threads, [=](int) {
    Vector sum[chains], x = Vector{} + 0.999f, y = Vector{} + 1e-3f;
    for (int chain = 0; chain < chains; ++chain) sum[chain] = y * static_cast<float>(chain);
    for (int64_t i = 0; i < iterations; ++i) {
      for (int chain = 0; chain < chains; ++chain) sum[chain] = sum[chain] * x + y;
      // Keeps the compiler from folding iterations together.
      asm volatile("" : "+r"(i));
    }
    keep(sum);
  });
  return 2.0 * width * chains * static_cast<double>(iterations) * threads / seconds;
}

// Flops per second of multiply-adds that read their operands as the sweep does, from L1: eight of twelve
// load a vector, four find one that is loaded already. No indices, no reductions, no other branches.
extern "C" double fed_fma_peak(int threads, int64_t iterations) {
  constexpr int vectors = 64, step = 8;
  const double seconds = seconds_of(threads, [=](int) {
    const Numbers numbers(vectors);
    Vector sum[12] = {}, x = Vector{} + 0.999f, y = Vector{} + 1e-3f;
    for (int64_t i = 0; i < iterations; ++i) {
      const Vector* from = numbers.data() + i % (vectors / step) * step;
      // Keeps the compiler from knowing what is there.
      asm volatile("" : "+r"(from));
      for (int k = 0; k < 4; ++k) {
        const Vector shared = from[k];
        sum[k] = shared * x + sum[k];
        sum[4 + k] = shared * y + sum[4 + k];
      }
      for (int k = 0; k < 4; ++k) sum[8 + k] = from[4 + k] * x + sum[8 + k];
    }
    keep(sum);
  });
  return 2.0 * width * 12 * static_cast<double>(iterations) * threads / seconds;
}

// Bytes per second when every thread reads its own `bytes` over and over, `repetitions` times.
extern "C" double read_bandwidth(int threads, int64_t bytes, int64_t repetitions) {
  constexpr int streams = 8;
  const int64_t vectors = bytes / static_cast<int64_t>(sizeof(Vector)) / streams * streams;
  std::vector<Numbers> data;
  for (int thread = 0; thread < threads; ++thread) data.emplace_back(vectors);
  const double seconds = seconds_of(threads, [&](int thread) {
    const Vector* from = data[thread].data();
    Vector sum[streams] = {};
    for (int64_t repetition = 0; repetition < repetitions; ++repetition) {
      // Keeps the compiler from knowing that it is the same memory again.
      asm volatile("" : "+r"(from));
      for (int64_t v = 0; v < vectors; v += streams) {
        for (int stream = 0; stream < streams; ++stream) sum[stream] += from[v + stream];
      }
    }
    keep(sum);
  });
  return static_cast<double>(vectors * sizeof(Vector)) * repetitions * threads / seconds;
}
