#pragma once

#include <pybind11/pybind11.h>

namespace dmf::python {

// BlockRun32 and BlockRun64: a run of gradient descent in the format of blocks on a GPU, in a NumPy array; and
// TooLargeForBlock. Needs the program and the rule that bind_descent binds.
void bind_device_descent(pybind11::module_& module);

}  // namespace dmf::python
