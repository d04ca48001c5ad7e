#pragma once

#include <pybind11/pybind11.h>

namespace dmf::python {

// Descent32 and Descent64: runs of gradient descent on NumPy arrays.
void bind_descent(pybind11::module_& module);

}  // namespace dmf::python
