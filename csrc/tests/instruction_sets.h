// Runs a part of a test on every instruction set of this machine; under ThreadSanitizer, which finds faults in
// the schedule that they share, only on the widest.
#pragma once

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "../kernels/instruction_set.h"

namespace dmf::test {

inline std::vector<std::string> tested_instruction_sets() {
#if defined(__SANITIZE_THREAD__)
  return {active_instruction_set()};
#else
  return available_instruction_sets();
#endif
}

template <class Body>
void on_every_instruction_set(const Body& body) {
  const std::string before = active_instruction_set();
  for (const std::string& name : tested_instruction_sets()) {
    INFO("instruction set " << name);
    REQUIRE(set_instruction_set(name));
    body();
  }
  REQUIRE(set_instruction_set(before));
}

}  // namespace dmf::test
