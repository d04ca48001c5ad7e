#include "instruction_set.h"

#include <atomic>
#include <cstdlib>

#if defined(DMF_HAS_X86_KERNELS)
#include <cpuid.h>
#endif

namespace dmf {
namespace {

struct InstructionSet {
  std::string name;
  const TileKernels* tile_kernels;
  const StepKernels<float>* float32_steps;
  const StepKernels<double>* float64_steps;
  const TopKernels<float>* float32_tops;
  const TopKernels<double>* float64_tops;
};

#define DMF_KERNELS_OF(name)                                                              \
  InstructionSet {                                                                        \
    #name, &name::tile_kernels, &name::step_kernels_float32, &name::step_kernels_float64, \
        &name::top_kernels_float32, &name::top_kernels_float64                            \
  }

#if defined(DMF_HAS_X86_KERNELS)
// Older compilers' __builtin_cpu_supports does not know this one.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

std::vector<InstructionSet> detect() {
  std::vector<InstructionSet> found = {DMF_KERNELS_OF(generic)};
#if defined(DMF_HAS_X86_KERNELS)
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (has_avx2) found.push_back(DMF_KERNELS_OF(avx2));
#if defined(DMF_HAS_AVX512_KERNELS)
  if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    found.push_back(DMF_KERNELS_OF(avx512));
  }
#endif
#endif
  return found;
}

struct Choice {
  std::vector<InstructionSet> available = detect();
  std::atomic<size_t> active{available.size() - 1};
  std::string refused;

  Choice() {
    const char* wanted = std::getenv("DMF_FAST_INSTRUCTION_SET");
    if (wanted != nullptr && *wanted != '\0' && !select(wanted)) refused = wanted;
  }

  bool select(const std::string& name) {
    for (size_t k = 0; k < available.size(); ++k) {
      if (available[k].name == name) {
        active = k;
        return true;
      }
    }
    return false;
  }
};

Choice& choice() {
  static Choice instance;
  return instance;
}

}  // namespace

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : choice().available) names.push_back(set.name);
  return names;
}

const std::string& active_instruction_set() {
  return choice().available[choice().active].name;
}
bool set_instruction_set(const std::string& name) {
  return choice().select(name);
}
const std::string& refused_instruction_set() {
  return choice().refused;
}
const TileKernels& active_tile_kernels() {
  return *choice().available[choice().active].tile_kernels;
}
template <>
const StepKernels<float>& active_step_kernels<float>() {
  return *choice().available[choice().active].float32_steps;
}
template <>
const StepKernels<double>& active_step_kernels<double>() {
  return *choice().available[choice().active].float64_steps;
}
template <>
const TopKernels<float>& active_top_kernels<float>() {
  return *choice().available[choice().active].float32_tops;
}
template <>
const TopKernels<double>& active_top_kernels<double>() {
  return *choice().available[choice().active].float64_tops;
}

}  // namespace dmf
