// Services of torch for native runs: its threads and its matrix products. This header includes nothing of
// torch.
#pragma once

#include <memory>

#include "../../kernels/cpu/blas.h"
#include "../../kernels/parallel.h"

namespace dmf::ops {

__attribute__((visibility("default"))) std::unique_ptr<Blas> torch_blas();
__attribute__((visibility("default"))) std::unique_ptr<Parallel> torch_threads();

}  // namespace dmf::ops
