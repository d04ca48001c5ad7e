// Runs a part of a test on every instruction set of this machine.
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "../kernels/instruction_set.h"

namespace dmf::test {

template <class Body>
void on_every_instruction_set(const Body& body) {
  const std::string before = active_instruction_set();
  for (const std::string& name : available_instruction_sets()) {
    INFO("instruction set " << name);
    REQUIRE(set_instruction_set(name));
    body();
  }
  REQUIRE(set_instruction_set(before));
}

}  // namespace dmf::test
