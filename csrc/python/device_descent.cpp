#include "device_descent.h"

#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "../kernels/cuda/descent_plan.h"
#include "checks.h"

namespace py = pybind11;

namespace dmf::python {
namespace {

template <class T>
class PyBlockRun {
 public:
  // A run at step 0 with factors of zeros.
  PyBlockRun(const DescentProgram& program, std::array<int64_t, 2> shape, const Array<int64_t>& rows,
             const Array<int64_t>& columns, const Array<T>& values, const std::optional<Array<T>>& weights,
             double scale, double total_weight, const Rule& rule, double train_loss, double gradient_norm,
             int64_t shared_limit) {
    check_range(shared_limit, 0, most_shared_bytes, "shared_limit");
    const Pairs<int64_t> pairs(rows, columns);
    const int64_t nnz = pairs.nnz;
    check_vector(values, nnz, "values");
    if (weights) check_vector(*weights, nnz, "weights");
    require(lie_below(pairs.row_of, nnz, shape[0]) && lie_below(pairs.column_of, nnz, shape[1]),
            "rows and columns must lie inside the matrix");
    require(std::isfinite(scale) && std::isfinite(total_weight), "scale and total_weight must be finite");
    check(rule);
    check(StopRules{train_loss, gradient_norm});
    const cuda::RunOptions options{rule, {train_loss, gradient_norm}, scale, total_weight};
    plan_ = cuda::plan_block_run(program, options, nnz, weights.has_value(), sizeof(T), shared_limit);
    const Matrix a = program.matrices[program.a];
    const int64_t column_count =
        program.forms_product() ? a.columns : program.matrices[program.b_transposed].rows;
    require(a.rows == shape[0] && column_count == shape[1], "the program must be for a matrix of this shape");
    const ObservedLines lines = sort_into_lines(pairs.row_of, pairs.column_of, nnz, shape[0], shape[1]);
    memory_.resize(plan_.memory_bytes, 0);
    cuda::write_run(plan_.run, lines, values.data(), weights ? weights->data() : nullptr, memory_.data());
  }

  // (offset, rows, columns, stride) of a stored factor or moment, in numbers of `memory`.
  std::array<int64_t, 4> place(Part part, int factor) const {
    check(part);
    require(factor >= 0 && factor < plan_.run.factors, "factor is out of range");
    const cuda::BlockMatrix& matrix = plan_.run.matrices[factor];
    require(part != Part::kept, "a block does not keep copies of parameters");
    const int32_t home =
        part == Part::parameter ? matrix.value.home : matrix.moments[part == Part::second_moment];
    require(home != cuda::no_home, "the rule does not keep this moment");
    return {home / static_cast<int64_t>(sizeof(T)), matrix.rows, matrix.columns, matrix.stride};
  }

  Array<T> memory() const {
    Array<T> result(static_cast<py::ssize_t>(memory_.size() / sizeof(T)));
    std::memcpy(result.mutable_data(), memory_.data(), memory_.size());
    return result;
  }
  Array<cuda::RunState> state() const {
    Array<cuda::RunState> result(1);
    *result.mutable_data() = {};
    return result;
  }
  int64_t shared_bytes() const { return plan_.shared_bytes; }
  double cycles() const { return plan_.cycles; }

 private:
  static constexpr int64_t most_shared_bytes = int64_t{1} << 24;  // far more than a GPU has

  cuda::BlockPlan plan_;
  std::vector<unsigned char> memory_;
};

template <class T>
void bind(py::module_& module, const char* name) {
  using Run = PyBlockRun<T>;
  py::class_<Run>(module, name)
      .def(py::init<const DescentProgram&, std::array<int64_t, 2>, const Array<int64_t>&, const Array<int64_t>&,
                    const Array<T>&, const std::optional<Array<T>>&, double, double, const Rule&, double,
                    double, int64_t>(),
           py::arg("program"), py::arg("shape"), py::arg("rows"), py::arg("columns"), py::arg("values"),
           py::arg("weights"), py::arg("scale"), py::arg("total_weight"), py::arg("rule"),
           py::arg("train_loss"), py::arg("gradient_norm"), py::arg("shared_limit"))
      .def("place", &Run::place, py::arg("part"), py::arg("factor"))
      .def("memory", &Run::memory)
      .def("state", &Run::state)
      .def_property_readonly("shared_bytes", &Run::shared_bytes)
      .def_property_readonly("cycles", &Run::cycles);
}

}  // namespace

void bind_device_descent(py::module_& module) {
  PYBIND11_NUMPY_DTYPE(cuda::RunState, step, until, square_average, loss, gradient_norm, outcome);
  py::register_exception<cuda::TooLargeForBlock>(module, "TooLargeForBlock", PyExc_ValueError);
  bind<float>(module, "BlockRun32");
  bind<double>(module, "BlockRun64");
}

}  // namespace dmf::python
