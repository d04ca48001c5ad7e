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
class PyBlockRuns {
 public:
  explicit PyBlockRuns(int64_t shared_limit) : shared_limit_(shared_limit) {
    check_range(shared_limit, 0, most_shared_bytes, "shared_limit");
  }

  // Adds a run at step 0 with factors of zeros, and returns its number.
  int64_t add(const DescentProgram& program, std::array<int64_t, 2> shape, const Array<int64_t>& rows,
              const Array<int64_t>& columns, const Array<T>& values, const std::optional<Array<T>>& weights,
              double scale, double total_weight, const Rule& rule, double train_loss, double gradient_norm) {
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
    cuda::BlockPlan plan =
        cuda::plan_block_run(program, options, nnz, weights.has_value(), sizeof(T), shared_limit_);
    const Matrix a = program.matrices[program.a];
    const int64_t column_count =
        program.forms_product() ? a.columns : program.matrices[program.b_transposed].rows;
    require(a.rows == shape[0] && column_count == shape[1], "the program must be for a matrix of this shape");
    const ObservedLines lines = sort_into_lines(pairs.row_of, pairs.column_of, nnz, shape[0], shape[1]);
    plan.run.memory = static_cast<int64_t>(memory_.size());
    memory_.resize(memory_.size() + plan.memory_bytes, 0);
    cuda::write_observed(plan.run, lines, values.data(), weights ? weights->data() : nullptr,
                         memory_.data() + plan.run.memory);
    shared_bytes_ = std::max(shared_bytes_, plan.shared_bytes);
    runs_.push_back(plan.run);
    return static_cast<int64_t>(runs_.size()) - 1;
  }

  // (offset, rows, columns, stride) of a factor as it is kept, or of a moment, in numbers of `memory`.
  std::array<int64_t, 4> place(int64_t run, Part part, int factor) const {
    check(part);
    require(run >= 0 && run < static_cast<int64_t>(runs_.size()), "there is no such run");
    require(factor >= 0 && factor < runs_[run].factors, "there is no such factor");
    const cuda::BlockMatrix& matrix = runs_[run].matrices[factor];
    require(part != Part::kept, "a block keeps no parameters aside");
    const int32_t home =
        part == Part::parameter ? matrix.value.home : matrix.moments[part == Part::second_moment];
    require(home != cuda::no_home, "the rule keeps no such moment");
    return {(runs_[run].memory + home) / static_cast<int64_t>(sizeof(T)), matrix.rows, matrix.columns,
            matrix.stride};
  }

  Array<uint8_t> runs() const { return copied<uint8_t>(runs_.data(), runs_.size() * sizeof(cuda::BlockRun)); }
  Array<T> memory() const { return copied<T>(memory_.data(), memory_.size()); }
  Array<cuda::RunState> states() const {
    const std::vector<cuda::RunState> fresh(runs_.size());
    return copied<cuda::RunState>(fresh.data(), fresh.size() * sizeof(cuda::RunState));
  }
  int64_t shared_bytes() const { return shared_bytes_; }

 private:
  template <class Number>
  static Array<Number> copied(const void* source, size_t bytes) {
    Array<Number> result(static_cast<py::ssize_t>(bytes / sizeof(Number)));
    if (bytes > 0) std::memcpy(result.mutable_data(), source, bytes);
    return result;
  }

  static constexpr int64_t most_shared_bytes = int64_t{1} << 24;  // far more than a GPU has

  const int64_t shared_limit_;
  int64_t shared_bytes_ = cuda::shared_front;
  std::vector<cuda::BlockRun> runs_;
  std::vector<unsigned char> memory_;
};

template <class T>
void bind(py::module_& module, const char* name) {
  using Runs = PyBlockRuns<T>;
  py::class_<Runs>(module, name)
      .def(py::init<int64_t>(), py::arg("shared_limit"))
      .def("add", &Runs::add, py::arg("program"), py::arg("shape"), py::arg("rows"), py::arg("columns"),
           py::arg("values"), py::arg("weights"), py::arg("scale"), py::arg("total_weight"), py::arg("rule"),
           py::arg("train_loss"), py::arg("gradient_norm"))
      .def("place", &Runs::place, py::arg("run"), py::arg("part"), py::arg("factor"))
      .def("runs", &Runs::runs)
      .def("memory", &Runs::memory)
      .def("states", &Runs::states)
      .def_property_readonly("shared_bytes", &Runs::shared_bytes);
}

}  // namespace

void bind_device_descent(py::module_& module) {
  PYBIND11_NUMPY_DTYPE(cuda::RunState, step, square_average, loss, gradient_norm, outcome);
  bind<float>(module, "BlockRuns32");
  bind<double>(module, "BlockRuns64");
}

}  // namespace dmf::python
