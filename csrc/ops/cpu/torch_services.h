// What torch lends to a run of gradient descent: its threads and its products. No torch header is needed here.
#pragma once

#include <memory>

#include "../../kernels/cpu/blas.h"
#include "../../kernels/parallel.h"

namespace dmf::ops {

__attribute__((visibility("default"))) std::unique_ptr<Blas> torch_blas();
__attribute__((visibility("default"))) std::unique_ptr<Parallel> torch_threads();

}  // namespace dmf::ops
