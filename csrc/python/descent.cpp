#include "descent.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>

#include "../kernels/cpu/descent.h"
#include "../ops/cpu/torch_services.h"

namespace py = pybind11;

namespace dmf::python {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

DescentProgram program_of(int factors, const std::vector<std::array<int64_t, 2>>& matrices,
                          const std::vector<std::array<int, 3>>& products, int a, int b_transposed) {
  DescentProgram program;
  program.factors = factors;
  for (const auto& [rows, columns] : matrices) program.matrices.push_back({rows, columns});
  for (const auto& [left, right, result] : products) program.products.push_back({left, right, result});
  program.a = a;
  program.b_transposed = b_transposed;
  return program;
}

// Guards direct use of this module; Python makes sound programs.
void check(const DescentProgram& program, int64_t row_count, int64_t column_count) {
  const int count = static_cast<int>(program.matrices.size());
  const auto exists = [count](int matrix) { return matrix >= 0 && matrix < count; };
  require(program.factors >= 1 && program.factors <= count, "factors must be 1 or more of the matrices");
  for (const Matrix& matrix : program.matrices) {
    require(matrix.rows >= 1 && matrix.columns >= 1, "matrices must have a row and a column");
  }
  for (const Product& product : program.products) {
    require(exists(product.left) && exists(product.right) && exists(product.result),
            "products must be of matrices that exist");
    const Matrix &left = program.matrices[product.left], &right = program.matrices[product.right],
                 &result = program.matrices[product.result];
    require(left.columns == right.rows && result.rows == left.rows && result.columns == right.columns,
            "the shapes of a product must fit");
  }
  require(exists(program.a) && program.matrices[program.a].rows == row_count, "a must have the rows of W");
  if (program.forms_product()) {
    require(program.matrices[program.a].columns == column_count, "a must have the columns of W");
  } else {
    require(exists(program.b_transposed) && program.matrices[program.b_transposed].rows == column_count &&
                program.matrices[program.b_transposed].columns == program.matrices[program.a].columns,
            "b_transposed must have the columns of W as rows, and the columns of a");
  }
}

template <class T>
class PyDescent {
 public:
  PyDescent(const DescentProgram& program, std::array<int64_t, 2> shape, const Array<int64_t>& rows,
            const Array<int64_t>& columns, const Array<T>& values, const std::optional<Array<T>>& weights,
            const Array<uint8_t>& layout, const Array<T>& layout_values,
            const std::optional<Array<T>>& layout_weights, double scale, double total_weight, const Rule& rule)
      : layout_(layout),
        layout_values_(layout_values),
        layout_weights_(layout_weights),
        blas_(ops::torch_blas()),
        threads_(ops::torch_threads()) {
    check(program, shape[0], shape[1]);
    ObservedEntries<T> entries;
    entries.nnz = rows.size();
    require(columns.size() == rows.size() && values.size() == rows.size() &&
                layout_values.size() == rows.size() && (!weights || weights->size() == rows.size()) &&
                (!layout_weights || layout_weights->size() == rows.size()),
            "all arrays of entries must have one length");
    entries.rows = rows.data();
    entries.columns = columns.data();
    for (int64_t entry = 0; entry < entries.nnz; ++entry) {
      require(entries.rows[entry] >= 0 && entries.rows[entry] < shape[0] && entries.columns[entry] >= 0 &&
                  entries.columns[entry] < shape[1],
              "rows and columns must lie inside the matrix");
    }
    entries.values = values.data();
    entries.weights = weights ? weights->data() : nullptr;
    entries.layout = view_layout(layout_.data(), layout_.size());
    require(entries.layout.header != nullptr && entries.layout.header->rows == shape[0] &&
                entries.layout.header->columns == shape[1] && entries.layout.header->nnz == entries.nnz,
            "layout must be that of the entries");
    entries.layout_values = layout_values_.data();
    entries.layout_weights = layout_weights_ ? layout_weights_->data() : nullptr;
    descent_ = std::make_unique<Descent<T>>(program, entries, scale, total_weight, rule, *blas_, *threads_);
    for (int factor = 0; factor < program.factors; ++factor) {
      shapes_.push_back({program.matrices[factor].rows, program.matrices[factor].columns});
    }
    moments_ = rule.moments();
  }

  Outcome run(int64_t until, double train_loss, double gradient_norm, double most_seconds) {
    py::gil_scoped_release release;
    return descent_->run(until, {train_loss, gradient_norm}, most_seconds);
  }

  double loss() const { return descent_->loss(); }
  double gradient_norm() const { return descent_->gradient_norm(); }
  int64_t step() const { return descent_->step(); }
  double square_average() const { return descent_->square_average(); }
  void go_on_from(int64_t step, double square_average) { descent_->go_on_from(step, square_average); }

  Array<T> read(Part part, int factor) const {
    check_part(part, factor);
    Array<T> numbers(std::vector<py::ssize_t>{shapes_[factor][0], shapes_[factor][1]});
    descent_->read(part, factor, numbers.mutable_data());
    return numbers;
  }

  void write(Part part, int factor, const Array<T>& numbers) {
    check_part(part, factor);
    require(
        numbers.ndim() == 2 && numbers.shape(0) == shapes_[factor][0] && numbers.shape(1) == shapes_[factor][1],
        "numbers must have the shape of the factor");
    descent_->write(part, factor, numbers.data());
  }

 private:
  void check_part(Part part, int factor) const {
    require(factor >= 0 && factor < static_cast<int>(shapes_.size()), "there is no such factor");
    require(static_cast<int>(part) <= moments_, "the rule keeps no such moment");
  }

  const Array<uint8_t> layout_;
  const Array<T> layout_values_;
  const std::optional<Array<T>> layout_weights_;
  const std::unique_ptr<Blas> blas_;
  const std::unique_ptr<Parallel> threads_;
  std::unique_ptr<Descent<T>> descent_;
  std::vector<std::array<int64_t, 2>> shapes_;
  int moments_ = 0;
};

template <class T>
void bind(py::module_& module, const char* name) {
  py::class_<PyDescent<T>>(module, name)
      .def(py::init<const DescentProgram&, std::array<int64_t, 2>, const Array<int64_t>&, const Array<int64_t>&,
                    const Array<T>&, const std::optional<Array<T>>&, const Array<uint8_t>&, const Array<T>&,
                    const std::optional<Array<T>>&, double, double, const Rule&>(),
           py::arg("program"), py::arg("shape"), py::arg("rows"), py::arg("columns"), py::arg("values"),
           py::arg("weights"), py::arg("layout"), py::arg("layout_values"), py::arg("layout_weights"),
           py::arg("scale"), py::arg("total_weight"), py::arg("rule"))
      .def("run", &PyDescent<T>::run, py::arg("until"), py::arg("train_loss"), py::arg("gradient_norm"),
           py::arg("most_seconds"))
      .def_property_readonly("loss", &PyDescent<T>::loss)
      .def_property_readonly("gradient_norm", &PyDescent<T>::gradient_norm)
      .def_property_readonly("step", &PyDescent<T>::step)
      .def_property_readonly("square_average", &PyDescent<T>::square_average)
      .def("go_on_from", &PyDescent<T>::go_on_from, py::arg("step"), py::arg("square_average"))
      .def("read", &PyDescent<T>::read, py::arg("part"), py::arg("factor"))
      .def("write", &PyDescent<T>::write, py::arg("part"), py::arg("factor"), py::arg("numbers"));
}

}  // namespace

void bind_descent(py::module_& module) {
  py::enum_<RuleKind>(module, "RuleKind")
      .value("gradient_descent", RuleKind::gradient_descent)
      .value("group_rmsprop", RuleKind::group_rmsprop)
      .value("adam", RuleKind::adam);
  py::enum_<Part>(module, "Part")
      .value("factor", Part::factor)
      .value("first_moment", Part::first_moment)
      .value("second_moment", Part::second_moment);
  py::enum_<Outcome>(module, "Outcome")
      .value("reached", Outcome::reached)
      .value("paused", Outcome::paused)
      .value("train_loss_threshold", Outcome::train_loss_threshold)
      .value("gradient_norm_threshold", Outcome::gradient_norm_threshold)
      .value("diverged", Outcome::diverged);
  py::class_<Rule>(module, "Rule")
      .def(py::init([](RuleKind kind, double lr, double weight_decay, double momentum, double alpha,
                       double beta1, double beta2, double eps) {
             return Rule{kind, lr, weight_decay, momentum, alpha, beta1, beta2, eps};
           }),
           py::arg("kind"), py::kw_only(), py::arg("lr"), py::arg("weight_decay") = 0.0,
           py::arg("momentum") = 0.0, py::arg("alpha") = 0.0, py::arg("beta1") = 0.0, py::arg("beta2") = 0.0,
           py::arg("eps") = 0.0)
      .def_property_readonly("moments", &Rule::moments);
  py::class_<DescentProgram>(module, "DescentProgram")
      .def(py::init(&program_of), py::arg("factors"), py::arg("matrices"), py::arg("products"), py::arg("a"),
           py::arg("b_transposed"));
  bind<float>(module, "Descent32");
  bind<double>(module, "Descent64");
}

}  // namespace dmf::python
