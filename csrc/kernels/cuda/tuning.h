// Parameters that can only be tuned by measuring on a GPU. Each can be set on the compiler's command line
// (-DDMF_PASS_THREADS=32), so that libraries that differ in one of them can be compared.
#pragma once

#include <cstdint>

namespace dmf::cuda {

// Threads of a block of the sweep: whole warps, powers of two. A block keeps its registers until its last warp
// is done, so small blocks wait less for long segments; but a multiprocessor holds at most 32 blocks, some only
// 16, and the last kernel adds one loss for each.
#ifndef DMF_PASS_THREADS
#define DMF_PASS_THREADS 64
#endif
constexpr int pass_threads = DMF_PASS_THREADS;

// Loads of 16 bytes that a thread of the sweep has in flight: 4, 8 or 16. More hide latency with fewer warps,
// but take four registers each.
#ifndef DMF_LOADS_IN_FLIGHT
#define DMF_LOADS_IN_FLIGHT 8
#endif
constexpr int loads_in_flight = DMF_LOADS_IN_FLIGHT;

// Warps of the sweep for which a multiprocessor must have registers; for 16-bit numbers, three quarters of
// them. More hide latency better, until kernels spill.
#ifndef DMF_RESIDENT_WARPS
#define DMF_RESIDENT_WARPS 16
#endif
constexpr int resident_warps = DMF_RESIDENT_WARPS;

// Up to this many entries the row pass stores the coefficients for the column pass, 4 bytes each. These 16 MB
// are a third of an H100's L2: while they stay there, they save the column pass its dots; beyond, they cost as
// much as its values. 0 stores none.
#ifndef DMF_KEPT_COEFFICIENTS
#define DMF_KEPT_COEFFICIENTS 4194304
#endif
constexpr int64_t kept_coefficients = DMF_KEPT_COEFFICIENTS;

}  // namespace dmf::cuda
