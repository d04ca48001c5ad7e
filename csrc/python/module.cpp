// dmf_fast._native: the layout, the instruction set and facts about the build, on NumPy arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "../kernels/cuda/device_layout.h"
#include "../kernels/cuda/tile_limits.h"
#include "../kernels/instruction_set.h"
#include "../kernels/layout_builder.h"
#include "../kernels/repeated_pairs.h"
#include "../kernels/thread_pool.h"
#include "descent.h"
#include "device_descent.h"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

template <class Index>
class PyLayoutBuilder {
 public:
  PyLayoutBuilder(const Array<Index>& rows, const Array<Index>& columns, int64_t row_count,
                  int64_t column_count, int threads)
      : threads_(threads) {
    if (rows.size() != columns.size()) throw std::invalid_argument("rows and columns differ in length");
    const int64_t nnz = rows.size();
    const dmf::TileShape shape = dmf::choose_tile_shape(row_count, column_count, nnz);
    const Index* row_of = rows.data();
    const Index* column_of = columns.data();
    py::gil_scoped_release release;
    builder_ = std::make_unique<dmf::LayoutBuilder<Index>>(row_of, column_of, nnz, row_count, column_count,
                                                           shape, threads_);
  }

  int64_t bytes() const { return builder_->bytes(); }

  void write(Array<uint8_t> buffer) {
    if (buffer.size() != bytes()) throw std::invalid_argument("buffer must have `bytes` bytes");
    uint8_t* target = buffer.mutable_data();
    py::gil_scoped_release release;
    builder_->write(target, threads_);
  }

 private:
  dmf::ThreadPool threads_;
  std::unique_ptr<dmf::LayoutBuilder<Index>> builder_;
};

template <class Index>
void bind_builder(py::module_& module, const char* name) {
  py::class_<PyLayoutBuilder<Index>>(module, name)
      .def(py::init<const Array<Index>&, const Array<Index>&, int64_t, int64_t, int>(), py::arg("rows"),
           py::arg("columns"), py::arg("row_count"), py::arg("column_count"), py::arg("threads"))
      .def_property_readonly("bytes", &PyLayoutBuilder<Index>::bytes)
      .def("write", &PyLayoutBuilder<Index>::write, py::arg("buffer").noconvert());
}

bool has_repeated_pairs(const Array<int32_t>& rows, const Array<int32_t>& columns, int64_t row_count,
                        int64_t column_count, int threads) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  if (rows.size() != columns.size()) throw std::invalid_argument("rows and columns differ in length");
  if (row_count < 0 || row_count > most || column_count < 0 || column_count > most) {
    throw std::invalid_argument("row_count and column_count must be from 0 to 2**31 - 1");
  }
  if (threads < 1 || threads > 4096) throw std::invalid_argument("threads must be from 1 to 4096");
  const int32_t *row_of = rows.data(), *column_of = columns.data();
  const int64_t nnz = rows.size();
  py::gil_scoped_release release;
  const auto lies_below = [](int64_t count) { return [count](int32_t i) { return i >= 0 && i < count; }; };
  if (!std::all_of(row_of, row_of + nnz, lies_below(row_count)) ||
      !std::all_of(column_of, column_of + nnz, lies_below(column_count))) {
    throw std::invalid_argument("rows and columns must lie inside the matrix");
  }
  dmf::ThreadPool pool(threads);
  return dmf::has_repeated_pairs(row_of, column_of, nnz, row_count, column_count, pool);
}

dmf::LayoutView checked_view(const Array<uint8_t>& buffer) {
  const dmf::LayoutView view = dmf::view_layout(buffer.data(), buffer.size());
  if (view.header == nullptr) throw std::invalid_argument("buffer does not hold a layout");
  return view;
}

py::dict describe_layout(const Array<uint8_t>& buffer) {
  const dmf::LayoutView view = checked_view(buffer);
  py::dict facts;
  facts["rows"] = view.header->rows;
  facts["columns"] = view.header->columns;
  facts["nnz"] = view.header->nnz;
  facts["tile_rows"] = view.header->tile_rows;
  facts["tile_columns"] = view.header->tile_columns;
  facts["tiles"] = view.header->tiles;
  facts["stripes"] = view.header->stripes;
  facts["position_offset"] = dmf::position_offset(view);
  facts["position_bytes"] = view.header->position_bytes;
  return facts;
}

// The sizes of a layout on a GPU, which follow from these numbers alone; there may be no GPU.
py::dict describe_device_layout(int64_t rows, int64_t columns, int64_t nnz) {
  const dmf::cuda::DeviceLayoutShape shape(rows, columns, nnz);
  py::dict facts;
  facts["bytes"] = shape.bytes;
  facts["has_masks"] = shape.has_masks;
  facts["row_blocks"] = shape.row_order.blocks;
  facts["column_blocks"] = shape.column_order.blocks;
  facts["slots"] = shape.row_order.slot_bound + shape.column_order.slot_bound;
  return facts;
}

py::tuple decode_layout(const Array<uint8_t>& buffer, int threads) {
  const dmf::LayoutView view = checked_view(buffer);
  Array<int64_t> rows(view.header->nnz), columns(view.header->nnz);
  int64_t* row_of = rows.mutable_data();
  int64_t* column_of = columns.mutable_data();
  {
    py::gil_scoped_release release;
    dmf::ThreadPool parallel(threads);
    dmf::decode_layout(view, row_of, column_of, parallel);
  }
  return py::make_tuple(rows, columns);
}

bool layout_is_sound(const Array<uint8_t>& buffer, int threads) {
  const dmf::LayoutView view = dmf::view_layout(buffer.data(), buffer.size());
  if (view.header == nullptr) return false;
  py::gil_scoped_release release;
  dmf::ThreadPool parallel(threads);
  return dmf::entries_are_sound(view, parallel);
}

void set_instruction_set(const std::string& name) {
  if (dmf::set_instruction_set(name)) return;
  std::string available;
  for (const std::string& other : dmf::available_instruction_sets()) available += " " + other;
  throw std::invalid_argument("instruction set '" + name +
                              "' is not available here; choose one of:" + available);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "Layout of observed entries, instruction sets and facts about the build.";
  bind_builder<int32_t>(module, "LayoutBuilder32");
  bind_builder<int64_t>(module, "LayoutBuilder64");
  module.def("has_repeated_pairs", &has_repeated_pairs, py::arg("rows").noconvert(),
             py::arg("columns").noconvert(), py::arg("row_count"), py::arg("column_count"), py::arg("threads"));
  module.def("describe_layout", &describe_layout, py::arg("buffer"));
  module.def("layout_is_sound", &layout_is_sound, py::arg("buffer"), py::arg("threads"));
  module.def("decode_layout", &decode_layout, py::arg("buffer"), py::arg("threads"));
  module.def("available_instruction_sets", &dmf::available_instruction_sets);
  module.def("active_instruction_set", &dmf::active_instruction_set);
  module.def("refused_instruction_set", &dmf::refused_instruction_set);
  module.def("set_instruction_set", &set_instruction_set, py::arg("name"));
  module.def("describe_device_layout", &describe_device_layout, py::arg("rows"), py::arg("columns"),
             py::arg("nnz"));
  module.attr("device_max_lines") = dmf::cuda::max_lines;
  module.attr("device_max_nnz") = dmf::cuda::max_nnz;
  module.attr("widest_tile") = dmf::cuda::widest_tile;
  dmf::python::bind_descent(module);
  dmf::python::bind_device_descent(module);
  module.attr("compiler") = DMF_COMPILER;
  module.attr("built_for_torch") = DMF_BUILT_FOR_TORCH;
}
