// dmf_fast._native: the layout, the instruction set and facts about the build, on NumPy arrays.
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>

#include "../kernels/cpu/top_columns.h"
#include "../kernels/cuda/device_layout.h"
#include "../kernels/cuda/tile_limits.h"
#include "../kernels/instruction_set.h"
#include "../kernels/layout_builder.h"
#include "../kernels/repeated_pairs.h"
#include "../kernels/thread_pool.h"
#include "checks.h"
#include "descent.h"
#include "device_descent.h"

namespace py = pybind11;

namespace dmf::python {
namespace {

template <class Index>
class PyLayoutBuilder {
 public:
  PyLayoutBuilder(const Array<Index>& rows, const Array<Index>& columns, int64_t row_count,
                  int64_t column_count, int64_t threads)
      : threads_(checked_threads(threads)) {
    require(row_count >= 0 && column_count >= 0, "row_count and column_count must be at least 0");
    const Pairs<Index> pairs(rows, columns);
    py::gil_scoped_release release;
    pairs.check_inside(row_count, column_count, threads_);
    builder_ = std::make_unique<LayoutBuilder<Index>>(
        pairs.row_of, pairs.column_of, pairs.nnz, row_count, column_count,
        choose_tile_shape(row_count, column_count, pairs.nnz), threads_);
  }

  int64_t bytes() const { return builder_->bytes(); }

  void write(Array<uint8_t> buffer) {
    check_vector(buffer, bytes(), "buffer");
    uint8_t* target = buffer.mutable_data();
    require(reinterpret_cast<uintptr_t>(target) % alignof(LayoutHeader) == 0,
            "buffer must begin at a multiple of 8 bytes");
    py::gil_scoped_release release;
    builder_->write(target, threads_);
  }

 private:
  ThreadPool threads_;
  std::unique_ptr<LayoutBuilder<Index>> builder_;
};

template <class Index>
void bind_builder(py::module_& module, const char* name) {
  py::class_<PyLayoutBuilder<Index>>(module, name)
      .def(py::init<const Array<Index>&, const Array<Index>&, int64_t, int64_t, int64_t>(), py::arg("rows"),
           py::arg("columns"), py::arg("row_count"), py::arg("column_count"), py::arg("threads"))
      .def_property_readonly("bytes", &PyLayoutBuilder<Index>::bytes)
      .def("write", &PyLayoutBuilder<Index>::write, py::arg("buffer").noconvert());
}

// Memory is proportional to rows and columns, so there must not be many more of them than entries.
bool find_repeated_pairs(const Array<int32_t>& rows, const Array<int32_t>& columns, int64_t row_count,
                         int64_t column_count, int64_t threads) {
  constexpr int64_t always_allowed = int64_t{1} << 20, most_indices = std::numeric_limits<int32_t>::max();
  const Pairs<int32_t> pairs(rows, columns);
  const int64_t most = std::min(always_allowed + pairs.nnz, most_indices);
  check_range(row_count, 0, most, "row_count");
  check_range(column_count, 0, most, "column_count");
  ThreadPool pool(checked_threads(threads));
  py::gil_scoped_release release;
  pairs.check_inside(row_count, column_count, pool);
  return has_repeated_pairs(pairs.row_of, pairs.column_of, pairs.nnz, row_count, column_count, pool);
}

py::dict describe_layout(const Array<uint8_t>& buffer) {
  const LayoutView view = checked_layout(buffer, "buffer");
  py::dict facts;
  facts["rows"] = view.header->rows;
  facts["columns"] = view.header->columns;
  facts["nnz"] = view.header->nnz;
  facts["tile_rows"] = view.header->tile_rows;
  facts["tile_columns"] = view.header->tile_columns;
  facts["tiles"] = view.header->tiles;
  facts["stripes"] = view.header->stripes;
  facts["position_offset"] = position_offset(view);
  facts["position_bytes"] = view.header->position_bytes;
  return facts;
}

// The sizes of a layout on a GPU, which depend only on these numbers and need no GPU.
py::dict describe_device_layout(int64_t rows, int64_t columns, int64_t nnz) {
  check_range(rows, 0, cuda::max_lines, "rows");
  check_range(columns, 0, cuda::max_lines, "columns");
  check_range(nnz, 0, cuda::max_nnz, "nnz");
  const cuda::DeviceLayoutShape shape(rows, columns, nnz);
  py::dict facts;
  facts["bytes"] = shape.bytes;
  facts["has_masks"] = shape.has_masks;
  facts["row_blocks"] = shape.row_order.blocks;
  facts["column_blocks"] = shape.column_order.blocks;
  facts["slots"] = shape.row_order.slot_bound + shape.column_order.slot_bound;
  return facts;
}

py::tuple decode(const Array<uint8_t>& buffer, int64_t threads) {
  const LayoutView view = checked_layout(buffer, "buffer");
  ThreadPool parallel(checked_threads(threads));
  Array<int64_t> rows(view.header->nnz), columns(view.header->nnz);
  int64_t* row_of = rows.mutable_data();
  int64_t* column_of = columns.mutable_data();
  {
    py::gil_scoped_release release;
    require_sound(view, parallel, "buffer");
    decode_layout(view, row_of, column_of, parallel);
  }
  return py::make_tuple(rows, columns);
}

bool layout_is_sound(const Array<uint8_t>& buffer, int64_t threads) {
  ThreadPool parallel(checked_threads(threads));
  const LayoutView view = buffer.ndim() == 1 ? view_layout(buffer.data(), buffer.size()) : LayoutView{};
  py::gil_scoped_release release;
  return view.header != nullptr && entries_are_sound(view, parallel);
}

void choose_instruction_set(const std::string& name) {
  if (set_instruction_set(name)) return;
  std::string available;
  for (const std::string& other : available_instruction_sets()) available += " " + other;
  throw std::invalid_argument("instruction set '" + name +
                              "' is not available here; choose one of:" + available);
}

}  // namespace
}  // namespace dmf::python

PYBIND11_MODULE(_native, module) {
  using namespace dmf::python;
  module.doc() = "Layout of observed entries, instruction sets and facts about the build.";
  bind_builder<int32_t>(module, "LayoutBuilder32");
  bind_builder<int64_t>(module, "LayoutBuilder64");
  module.def("has_repeated_pairs", &find_repeated_pairs, py::arg("rows").noconvert(),
             py::arg("columns").noconvert(), py::arg("row_count"), py::arg("column_count"), py::arg("threads"));
  module.def("describe_layout", &describe_layout, py::arg("buffer"));
  module.def("layout_is_sound", &layout_is_sound, py::arg("buffer"), py::arg("threads"));
  module.def("decode_layout", &decode, py::arg("buffer"), py::arg("threads"));
  module.def("available_instruction_sets", &dmf::available_instruction_sets);
  module.def("active_instruction_set", &dmf::active_instruction_set);
  module.def("refused_instruction_set", &dmf::refused_instruction_set);
  module.def("set_instruction_set", &choose_instruction_set, py::arg("name"));
  module.def("describe_device_layout", &describe_device_layout, py::arg("rows"), py::arg("columns"),
             py::arg("nnz"));
  module.attr("device_max_lines") = dmf::cuda::max_lines;
  module.attr("device_max_nnz") = dmf::cuda::max_nnz;
  module.attr("widest_tile") = dmf::cuda::widest_tile;
  module.attr("most_best_columns") = dmf::most_best_columns;
  bind_descent(module);
  bind_device_descent(module);
  refuse_unfinished_objects(module);
  module.attr("compiler") = DMF_COMPILER;
  module.attr("built_for_torch") = DMF_BUILT_FOR_TORCH;
}
