// A strip of P vectors of consecutive numbers.
#pragma once

#include "simd.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <class T, int P>
struct Panel {
  using V = Vector<T>;
  using Register = typename V::type;

  template <class Storage>
  static DMF_INLINE void load(const Storage* strip, Register (&x)[P]) {
    for (int p = 0; p < P; ++p) x[p] = V::load(strip + p * V::width);
  }
  static DMF_INLINE void load(const bfloat16* strip, Register (&x)[P]) {
    static_assert(P % 2 == 0);
    for (int p = 0; p < P; p += 2) V::load_pair(strip + p * V::width, x[p], x[p + 1]);
  }

  static DMF_INLINE void store(T* strip, const Register (&x)[P]) {
    for (int p = 0; p < P; ++p) V::store(strip + p * V::width, x[p]);
  }
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
