// Sums over the ranks of a run, computed by a Python function.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>
#include <memory>
#include <vector>

#include "../kernels/ranks.h"

namespace dmf::python {

// A Python function that gets the vectors as a list of arrays and sums each in place. The arrays are views of
// the memory of `owner`, which they keep alive, or copies if there is no owner.
class PyRanks final : public Ranks {
 public:
  explicit PyRanks(const pybind11::function& sum) : sum_(sum) {}

  std::weak_ptr<void> owner;

  void sum(const std::vector<RankVector>& vectors) override {
    pybind11::gil_scoped_acquire acquire;
    const std::shared_ptr<void> kept = owner.lock();
    pybind11::list arrays;
    for (const RankVector& vector : vectors) arrays.append(array_of(vector, kept));
    const std::vector<pybind11::array> all =
        arrays.cast<std::vector<pybind11::array>>();  // even if the list changes
    sum_(arrays);
    if (kept != nullptr) return;
    for (size_t place = 0; place < vectors.size(); ++place) {
      std::memcpy(vectors[place].numbers, all[place].data(), all[place].nbytes());
    }
  }

 private:
  static pybind11::array array_of(const RankVector& vector, const std::shared_ptr<void>& owner) {
    const pybind11::dtype dtype =
        vector.dtype == Dtype::float64 ? pybind11::dtype::of<double>() : pybind11::dtype::of<float>();
    if (owner == nullptr) return pybind11::array(dtype, vector.count, vector.numbers);
    const pybind11::capsule base(new std::shared_ptr<void>(owner),
                                 [](void* pointer) { delete static_cast<std::shared_ptr<void>*>(pointer); });
    return pybind11::array(dtype, vector.count, vector.numbers, base);
  }

  const pybind11::function sum_;
};

}  // namespace dmf::python
