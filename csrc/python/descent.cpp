#include "descent.h"

#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../kernels/block_tree.h"
#include "../kernels/cpu/descent.h"
#include "../kernels/thread_pool.h"
#include "../ops/cpu/torch_services.h"
#include "checks.h"
#include "ranks.h"

namespace py = pybind11;

namespace dmf::python {
namespace {

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

// In bytes. Matrices are zeroed at once, so if they did not fit, the system would kill the process.
int64_t physical_memory() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

// Guards direct use of this module; programs made by the package are valid.
void check_program(const DescentProgram& program, int64_t row_count, int64_t column_count, int64_t blocks,
                   int64_t number_bytes) {
  const int count = static_cast<int>(program.matrices.size());
  const auto exists = [count](int matrix) { return matrix >= 0 && matrix < count; };
  require(program.factors >= 1 && program.factors <= count, "factors must be 1 or more of the matrices");
  require(count == program.factors + static_cast<int>(program.products.size()),
          "matrices must be the factors and the result of each product");
  // Every matrix and its gradients, one on each level of the block tree, in rows of whole cache lines.
  const int64_t numbers_of_line = 64 / number_bytes;
  int64_t lines_left = physical_memory() / 64 / (1 + tree_levels(blocks));
  for (const Matrix& matrix : program.matrices) {
    require(matrix.rows >= 1 && matrix.columns >= 1, "matrices must have a row and a column");
    const int64_t lines_of_row = matrix.columns / numbers_of_line + 1;
    require(matrix.rows <= lines_left / lines_of_row, "matrices must fit the memory of this machine");
    lines_left -= matrix.rows * lines_of_row;
  }
  std::vector<int> uses(count, 0);
  int next = program.factors;
  for (const Product& product : program.products) {
    require(product.result == next && product.left >= 0 && product.left < next && product.right >= 0 &&
                product.right < next,
            "products must be of matrices that exist, their results numbered in order");
    ++next;
    const Matrix &left = program.matrices[product.left], &right = program.matrices[product.right],
                 &result = program.matrices[product.result];
    require(left.columns == right.rows && result.rows == left.rows && result.columns == right.columns,
            "the shapes of a product must fit");
    ++uses[product.left];
    ++uses[product.right];
  }
  require(exists(program.a) && program.matrices[program.a].rows == row_count, "a must have as many rows as W");
  ++uses[program.a];
  if (program.forms_product()) {
    require(program.matrices[program.a].columns == column_count, "a must have as many columns as W");
  } else {
    require(exists(program.b_transposed) && program.matrices[program.b_transposed].rows == column_count &&
                program.matrices[program.b_transposed].columns == program.matrices[program.a].columns,
            "b_transposed must have the columns of W as rows, and the columns of a");
    ++uses[program.b_transposed];
  }
  require(std::all_of(uses.begin(), uses.end(), [](int times) { return times == 1; }),
          "every matrix must be used once: in a product, as a or as b_transposed");
}

// A layout with its values and weights: a view that keeps the arrays alive.
template <class T>
class PyObservedEntries {
 public:
  PyObservedEntries(const Array<uint8_t>& layout, const Array<T>& values,
                    const std::optional<Array<T>>& weights)
      : layout_(layout), values_(values), weights_(weights) {
    const LayoutView view = checked_layout(layout_, "layout");
    check_vector(values_, view.header->nnz, "values");
    if (weights_) check_vector(*weights_, view.header->nnz, "weights");
    const T* first_weight = weights_ ? weights_->data() : nullptr;
    const T* first_value = values_.data();
    py::gil_scoped_release release;
    ThreadPool one_thread(1);
    require(entries_are_inside(view, one_thread), "layout must hold a layout of observed entries");
    entries_ = observed_entries(view, first_value, first_weight);
    require(view.header->nnz == 0 || (entries_.total_weight > 0 && std::isfinite(entries_.total_weight)),
            "the weights of all entries must sum to more than 0");
  }

  const ObservedEntries<T>& view() const { return entries_; }
  int64_t rows() const { return entries_.layout.header->rows; }
  int64_t columns() const { return entries_.layout.header->columns; }

 private:
  const Array<uint8_t> layout_;
  const Array<T> values_;
  const std::optional<Array<T>> weights_;
  ObservedEntries<T> entries_;
};

template <class T>
class PyDescent {
 public:
  using Entries = PyObservedEntries<T>;
  using Blocks = std::vector<std::shared_ptr<Entries>>;  // of rows, stacked

  PyDescent(const DescentProgram& program, const Blocks& train, double loss_scale, const Rule& rule,
            double mean, bool biases, const std::vector<std::optional<Array<T>>>& scales,
            const std::vector<std::optional<Array<T>>>& curvatures, int64_t threads,
            const std::optional<py::function>& ranks)
      : train_(train), state_(std::make_shared<State>()) {
    require(!train.empty(), "train must hold the ObservedEntries of at least one block, got none");
    require(std::find(train.begin(), train.end(), nullptr) == train.end(),
            "train must be a list of ObservedEntries, got None in it");
    const int64_t rows_of_block = train[0]->rows(), blocks = static_cast<int64_t>(train.size());
    require(have_shapes_of_train(train), "all blocks of train must have matrices of the same shape");
    require(rows_of_block <= std::numeric_limits<int64_t>::max() / blocks, "train must not have so many rows");
    check_program(program, rows_of_block * blocks, train[0]->columns(), blocks, sizeof(T));
    check(rule);
    require(std::isfinite(loss_scale) && std::isfinite(mean), "loss_scale and mean must be finite");
    state_->threads = std::make_unique<ThreadPool>(checked_threads(threads));
    if (ranks) state_->ranks = std::make_unique<PyRanks>(*ranks);
    const std::vector<RowFacts<T>> rows = checked_rows(program, rule, biases, scales, curvatures);
    alone([&] {
      state_->blas = ops::torch_blas();
      state_->descent =
          std::make_unique<Descent<T>>(program, views(train), DescentOptions{loss_scale, rule, mean, biases},
                                       rows, *state_->blas, *state_->threads, state_->ranks.get());
    });
    descent_ = state_->descent.get();
    if (ranks) state_->ranks->owner = state_;
  }

  Outcome run(int64_t until, double train_loss, double gradient_norm, double most_seconds) {
    const StopRules stop{train_loss, gradient_norm};
    check(stop);
    require(!std::isnan(most_seconds), "most_seconds must be a number, got nan");
    return alone([&] { return descent_->run(until, stop, most_seconds); });
  }

  int64_t step() const {
    return alone([&] { return descent_->step(); });
  }
  double loss() const {
    return alone([&] { return descent_->loss(); });
  }
  double gradient_norm() const {
    return alone([&] { return descent_->gradient_norm(); });
  }
  int parameters() const { return descent_->parameters(); }

  double mean_squared_error(const Blocks& entries) {
    require(entries.size() == train_.size(),
            "entries must be of as many blocks as train: " + std::to_string(train_.size()) + ", got " +
                std::to_string(entries.size()));
    require(std::find(entries.begin(), entries.end(), nullptr) == entries.end(),
            "entries must be a list of ObservedEntries, got None in it");
    require(have_shapes_of_train(entries), "entries must be of a matrix of the shape of train's");
    return alone([&] { return descent_->mean_squared_error(views(entries)); });
  }

  void keep() {
    alone([&] { descent_->keep(); });
  }

  Array<T> read(Part part, int parameter) const {
    Array<T> numbers(checked_shape(part, parameter));
    T* target = numbers.mutable_data();
    alone([&] { descent_->read(part, parameter, target); });
    return numbers;
  }

  void write(Part part, int parameter, const Array<T>& numbers) {
    const std::vector<py::ssize_t> shape = checked_shape(part, parameter);
    require(std::equal(numbers.shape(), numbers.shape() + numbers.ndim(), shape.begin(), shape.end()),
            "numbers must have the shape of the parameter");
    const T* source = numbers.data();
    alone([&] { descent_->write(part, parameter, source); });
  }

  std::vector<double> scalars() const {
    return alone([&] { return descent_->scalars(); });
  }

  void resume_from(int64_t step, const std::vector<double>& scalars) {
    require(step >= 0, "step must be at least 0, got " + std::to_string(step));
    alone([&] {
      const size_t count = descent_->scalars().size();
      require(scalars.size() == count, "scalars must be " + std::to_string(count) +
                                           " numbers for this rule, got " + std::to_string(scalars.size()));
      descent_->resume_from(step, scalars);
    });
  }

 private:
  // Arrays passed to `ranks` may outlive the run and keep its memory alive.
  struct State {
    std::unique_ptr<Blas> blas;
    std::unique_ptr<Parallel> threads;
    std::unique_ptr<PyRanks> ranks;
    std::unique_ptr<Descent<T>> descent;
  };

  // Without the GIL, one call at a time.
  template <class Body>
  auto alone(const Body& body) const {
    if (thread_inside_ == std::this_thread::get_id()) {
      throw std::runtime_error("ranks must not use the run that calls it");
    }
    py::gil_scoped_release release;
    const std::lock_guard<std::mutex> lock(mutex_);
    const Inside inside(thread_inside_);
    return body();
  }

  struct Inside {
    std::atomic<std::thread::id>& thread;
    explicit Inside(std::atomic<std::thread::id>& inside) : thread(inside) {
      thread = std::this_thread::get_id();
    }
    ~Inside() { thread = std::thread::id(); }
    Inside(const Inside&) = delete;
  };

  bool have_shapes_of_train(const Blocks& blocks) const {
    return std::all_of(blocks.begin(), blocks.end(), [&](const std::shared_ptr<Entries>& block) {
      return block->rows() == train_[0]->rows() && block->columns() == train_[0]->columns();
    });
  }

  static std::vector<ObservedEntries<T>> views(const Blocks& blocks) {
    std::vector<ObservedEntries<T>> views;
    for (const std::shared_ptr<Entries>& block : blocks) views.push_back(block->view());
    return views;
  }

  static std::vector<RowFacts<T>> checked_rows(const DescentProgram& program, const Rule& rule, bool biases,
                                               const std::vector<std::optional<Array<T>>>& scales,
                                               const std::vector<std::optional<Array<T>>>& curvatures) {
    std::vector<int64_t> rows;
    for (int factor = 0; factor < program.factors; ++factor) rows.push_back(program.matrices[factor].rows);
    if (biases) {
      const Matrix& a = program.matrices[program.a];
      rows.push_back(a.rows);
      rows.push_back(program.forms_product() ? a.columns : program.matrices[program.b_transposed].rows);
    }
    if (rule.kind == RuleKind::preconditioned_lbfgs) {
      require(program.factors == 2 && program.products.empty() && !program.forms_product(),
              "L-BFGS requires two factors whose product is not formed");
      require(rule.gradient_clip == 0, "L-BFGS does not clip gradients");
    }
    std::vector<RowFacts<T>> facts(rows.size());
    const std::vector<const T*> scale = checked_numbers("scales", scales, rows),
                                curvature = checked_numbers("curvatures", curvatures, rows);
    for (size_t parameter = 0; parameter < rows.size(); ++parameter) {
      const T* numbers = scale[parameter];
      require(numbers == nullptr || rule.kind != RuleKind::adam,
              "Adam does not support scales; use another rule or omit them");
      require(numbers == nullptr || std::all_of(numbers, numbers + rows[parameter], [](T x) { return x > 0; }),
              "scales must be above 0 and finite");
      facts[parameter] = {numbers, curvature[parameter]};
    }
    return facts;
  }

  // Null for parameters without numbers.
  static std::vector<const T*> checked_numbers(const std::string& name,
                                               const std::vector<std::optional<Array<T>>>& given,
                                               const std::vector<int64_t>& rows) {
    std::vector<const T*> pointers(rows.size(), nullptr);
    require(given.empty() || given.size() == rows.size(),
            name + " must be empty or one for each of " + std::to_string(rows.size()) + " parameters, got " +
                std::to_string(given.size()));
    for (size_t parameter = 0; parameter < given.size(); ++parameter) {
      if (!given[parameter]) continue;
      const Array<T>& array = *given[parameter];
      check_vector(array, rows[parameter], name + " of a parameter");
      const T* numbers = array.data();
      require(std::all_of(numbers, numbers + rows[parameter],
                          [](T number) { return std::isfinite(number) && number >= 0; }),
              name + " must be at least 0 and finite");
      pointers[parameter] = numbers;
    }
    return pointers;
  }

  // A bias is a vector.
  std::vector<py::ssize_t> checked_shape(Part part, int parameter) const {
    check(part);
    require(parameter >= 0 && parameter < descent_->parameters(), "parameter must be below " +
                                                                      std::to_string(descent_->parameters()) +
                                                                      ", got " + std::to_string(parameter));
    require(
        alone([&] { return descent_->has(part, parameter); }),
        part == Part::kept ? "nothing has been kept; call keep() first" : "the rule does not keep this moment");
    const Matrix shape = descent_->shape(parameter);
    if (descent_->is_bias(parameter)) return {shape.rows};
    return {shape.rows, shape.columns};
  }

  const Blocks train_;
  const std::shared_ptr<State> state_;
  Descent<T>* descent_ = nullptr;
  mutable std::mutex mutex_;
  mutable std::atomic<std::thread::id> thread_inside_{};
};

template <class T>
void bind(py::module_& module, const std::string& bits) {
  using Entries = PyObservedEntries<T>;
  py::class_<Entries, std::shared_ptr<Entries>>(module, ("ObservedEntries" + bits).c_str())
      .def(py::init<const Array<uint8_t>&, const Array<T>&, const std::optional<Array<T>>&>(),
           py::arg("layout").noconvert(), py::arg("values").noconvert(), py::arg("weights").noconvert());
  using D = PyDescent<T>;
  py::class_<D>(module, ("Descent" + bits).c_str())
      .def(py::init<const DescentProgram&, const typename D::Blocks&, double, const Rule&, double, bool,
                    const std::vector<std::optional<Array<T>>>&, const std::vector<std::optional<Array<T>>>&,
                    int64_t, const std::optional<py::function>&>(),
           py::arg("program"), py::arg("train"), py::kw_only(), py::arg("loss_scale"), py::arg("rule"),
           py::arg("mean") = 0.0, py::arg("biases") = false,
           py::arg("scales") = std::vector<std::optional<Array<T>>>{},
           py::arg("curvatures") = std::vector<std::optional<Array<T>>>{}, py::arg("threads") = 1,
           py::arg("ranks") = std::optional<py::function>{})
      .def("run", &D::run, py::arg("until"), py::arg("train_loss"), py::arg("gradient_norm"),
           py::arg("most_seconds"))
      .def_property_readonly("step", &D::step)
      .def_property_readonly("loss", &D::loss)
      .def_property_readonly("gradient_norm", &D::gradient_norm)
      .def_property_readonly("parameters", &D::parameters)
      .def("mean_squared_error", &D::mean_squared_error, py::arg("entries"))
      .def("keep", &D::keep)
      .def("read", &D::read, py::arg("part"), py::arg("parameter"))
      .def("write", &D::write, py::arg("part"), py::arg("parameter"), py::arg("numbers"))
      .def("scalars", &D::scalars)
      .def("resume_from", &D::resume_from, py::arg("step"), py::arg("scalars"));
}

}  // namespace

void bind_descent(py::module_& module) {
  py::enum_<RuleKind>(module, "RuleKind")
      .value("gradient_descent", RuleKind::gradient_descent)
      .value("group_rmsprop", RuleKind::group_rmsprop)
      .value("adam", RuleKind::adam)
      .value("adaptive_gradient_descent", RuleKind::adaptive_gradient_descent)
      .value("preconditioned_lbfgs", RuleKind::preconditioned_lbfgs);
  py::enum_<Part>(module, "Part")
      .value("parameter", Part::parameter)
      .value("first_moment", Part::first_moment)
      .value("second_moment", Part::second_moment)
      .value("kept", Part::kept);
  py::enum_<Outcome>(module, "Outcome")
      .value("reached", Outcome::reached)
      .value("paused", Outcome::paused)
      .value("train_loss_threshold", Outcome::train_loss_threshold)
      .value("gradient_norm_threshold", Outcome::gradient_norm_threshold)
      .value("diverged", Outcome::diverged);
  py::class_<Rule>(module, "Rule")
      .def(py::init([](RuleKind kind, double lr, double weight_decay, double bias_weight_decay, double momentum,
                       double alpha, double beta1, double beta2, double eps, double gradient_clip,
                       double decay_rate, double decay_after, double concavity, double knee) {
             return Rule{kind,      lr,  weight_decay,      momentum,      alpha,      beta1,
                         beta2,     eps, bias_weight_decay, gradient_clip, decay_rate, decay_after,
                         concavity, knee};
           }),
           py::arg("kind"), py::kw_only(), py::arg("lr"), py::arg("weight_decay") = 0.0,
           py::arg("bias_weight_decay") = 0.0, py::arg("momentum") = 0.0, py::arg("alpha") = 0.0,
           py::arg("beta1") = 0.0, py::arg("beta2") = 0.0, py::arg("eps") = 0.0, py::arg("gradient_clip") = 0.0,
           py::arg("decay_rate") = 1.0, py::arg("decay_after") = 0.0, py::arg("concavity") = 0.0,
           py::arg("knee") = 1.0)
      .def_property_readonly("moments", &Rule::moments);
  py::class_<DescentProgram>(module, "DescentProgram")
      .def(py::init(&program_of), py::arg("factors"), py::arg("matrices"), py::arg("products"), py::arg("a"),
           py::arg("b_transposed"));
  bind<float>(module, "32");
  bind<double>(module, "64");
}

}  // namespace dmf::python
