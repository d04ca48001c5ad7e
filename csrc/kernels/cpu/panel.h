// A strip of P vectors of consecutive numbers, of which the last may have only `rest` lanes.
#pragma once

#include "simd.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <class T, int P, bool Partial>
struct Panel {
  using V = Vector<T>;
  using Register = typename V::type;

  int rest;  // lanes of the last vector; read only when Partial

  template <class Storage>
  DMF_INLINE Register load(const Storage* strip, int p) const {
    return Partial && p == P - 1 ? V::load_some(strip + p * V::width, rest) : V::load(strip + p * V::width);
  }

  template <class Storage>
  DMF_INLINE void load(const Storage* strip, Register (&x)[P]) const {
    for (int p = 0; p < P; ++p) x[p] = load(strip, p);
  }

  DMF_INLINE void store(T* strip, const Register (&x)[P]) const {
    for (int p = 0; p < P; ++p) {
      if (Partial && p == P - 1) {
        V::store_some(strip + p * V::width, x[p], rest);
      } else {
        V::store(strip + p * V::width, x[p]);
      }
    }
  }
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
