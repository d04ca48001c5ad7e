#pragma once

#include <pybind11/pybind11.h>

namespace dmf::python {

// BlockRuns32 and BlockRuns64: runs of gradient descent as blocks on a GPU read them, in NumPy arrays. Needs
// the program and the rule that bind_descent binds.
void bind_device_descent(pybind11::module_& module);

}  // namespace dmf::python
