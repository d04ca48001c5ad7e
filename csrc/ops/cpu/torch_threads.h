// torch's own thread pool, so that torch.set_num_threads() and nested parallelism are respected.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "../../kernels/parallel.h"

namespace dmf::ops {

class TorchThreads final : public Parallel {
 public:
  int threads() const override { return static_cast<int>(torch::stable::get_num_threads()); }

 protected:
  void run_erased(int workers, ErasedBody body, const void* context) override {
    torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) body(context, static_cast<int>(worker));
    });
  }
};

}  // namespace dmf::ops
