#pragma once

#include <pybind11/pybind11.h>

namespace dmf::python {

// BlockRun32 and BlockRun64: runs of gradient descent for GPU blocks, in NumPy arrays; and TooLargeForBlock.
// Needs the program and the rule that bind_descent binds.
void bind_device_descent(pybind11::module_& module);

}  // namespace dmf::python
