// What this machine can do at best: fused multiply-adds in registers, and reading memory. Compiled by
// bench/machine.py for the processor it runs on.
#include <chrono>
#include <cstddef>
#include <cstdint>
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

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
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
    for (int chain = 0; chain < chains; ++chain) asm volatile("" : : "m"(sum[chain]));
  });
  return 2.0 * width * chains * static_cast<double>(iterations) * threads / seconds;
}

// Bytes per second when every thread reads its own `bytes` over and over, `repetitions` times.
extern "C" double read_bandwidth(int threads, int64_t bytes, int64_t repetitions) {
  constexpr int streams = 8;
  const int64_t vectors = bytes / static_cast<int64_t>(sizeof(Vector)) / streams * streams;
  std::vector<std::vector<Vector>> data;
  for (int thread = 0; thread < threads; ++thread) data.emplace_back(vectors, Vector{} + 1.0f);
  const double seconds = seconds_of(threads, [&](int thread) {
    const Vector* from = data[thread].data();
    Vector sum[streams] = {};
    for (int64_t repetition = 0; repetition < repetitions; ++repetition) {
      for (int64_t v = 0; v < vectors; v += streams) {
        for (int stream = 0; stream < streams; ++stream) sum[stream] += from[v + stream];
      }
      asm volatile("" : : : "memory");
    }
    for (int stream = 0; stream < streams; ++stream) asm volatile("" : : "m"(sum[stream]));
  });
  return static_cast<double>(vectors * sizeof(Vector)) * repetitions * threads / seconds;
}
