"""Peak memory of building `Observations` and of one step at 10M entries, in a separate process.

`python -m bench.memory` prints one JSON object. The caller's arrays are freed as soon as the
`Observations` have their own copies, as a reader of files would do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

ROWS, COLUMNS, NNZ, H = 69878, 10677, 10_000_000, 64


def measure() -> dict[str, float]:
    """Run the measurement in a fresh process and return bytes an entry."""
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory"], cwd=root, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


class PeakMemory:
    """Samples the resident memory of this process every millisecond."""

    def __enter__(self) -> PeakMemory:
        self.peak = self.start = resident_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.is_set():
            self.peak = max(self.peak, resident_bytes())
            time.sleep(0.001)


def resident_bytes() -> int:
    """Return the resident set of this process without pages that were only mapped from files."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * 4096


def main() -> None:
    import torch

    from bench.problems import skewed
    from dmf_fast import Observations, completion_loss

    warm = skewed(100, 100, 1000, H)
    factors = [warm.b_transposed.T.contiguous().requires_grad_(), warm.a.requires_grad_()]
    completion_loss(factors, warm.observations()).backward()  # loads libraries, starts threads
    problem = skewed(ROWS, COLUMNS, NNZ, H)
    rows, columns, values = problem.rows.int(), problem.columns.int(), problem.values.clone()
    factors = [problem.b_transposed.T.contiguous().requires_grad_(), problem.a.requires_grad_()]
    for factor in factors:
        factor.grad = torch.zeros_like(factor)
    before = resident_bytes()
    with PeakMemory() as building:
        observations = Observations(rows, columns, values, problem.shape)
        observations.layout()
    held = resident_bytes() - before
    with PeakMemory() as stepping:
        completion_loss(factors, observations).backward()
    # One step needs A, Bᵀ and their gradients as temporaries: those count as factors and gradients.
    sides = 4 * H * (ROWS + COLUMNS)
    print(
        json.dumps(
            {
                "entries": NNZ,
                "peak_building_bytes_per_entry": (building.peak - before) / NNZ,
                "held_bytes_per_entry": held / NNZ,
                "peak_step_bytes_per_entry": (stepping.peak - before) / NNZ,
                "sides_bytes_per_entry": sides / NNZ,
            }
        )
    )


if __name__ == "__main__":
    main()
