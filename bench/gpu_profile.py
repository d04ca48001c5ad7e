"""`python -m bench.gpu_profile`: one pass over 1M entries, sparse and with tiles, for a profiler.

Kernels count between the start and the stop of the profiler: `ncu --profile-from-start off`.
"""

from __future__ import annotations

import torch

from bench.gpu_rivals import GPU_RIVALS
from bench.problems import MILLION, skewed_on

PASSES = ("dmf_fast", "dmf_fast tiles, TF32")
WARM_UP = 2


def main() -> None:
    problem = skewed_on("cuda", *MILLION, h=64)
    for name in PASSES:
        one_pass = GPU_RIVALS[name](problem)
        for _ in range(WARM_UP):
            one_pass()
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
        one_pass()
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()


if __name__ == "__main__":
    main()
