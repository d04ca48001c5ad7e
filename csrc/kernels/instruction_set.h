// Which instruction set the kernels use: the widest that the processor has, or the one that the environment
// variable DMF_FAST_INSTRUCTION_SET (generic, avx2, avx512) selects.
#pragma once

#include <string>
#include <vector>

#include "cpu/step_kernels.h"
#include "cpu/tile_kernels.h"
#include "cpu/top_kernels.h"

namespace dmf {

// Names of the instruction sets that this build and this processor have, narrowest first.
std::vector<std::string> available_instruction_sets();

const std::string& active_instruction_set();

// Returns false and changes nothing if `name` is not available.
bool set_instruction_set(const std::string& name);

// The value of the environment variable if it is not available; otherwise empty.
const std::string& refused_instruction_set();

const TileKernels& active_tile_kernels();

template <>
const StepKernels<float>& active_step_kernels<float>();
template <>
const StepKernels<double>& active_step_kernels<double>();
template <>
const TopKernels<float>& active_top_kernels<float>();
template <>
const TopKernels<double>& active_top_kernels<double>();

}  // namespace dmf
