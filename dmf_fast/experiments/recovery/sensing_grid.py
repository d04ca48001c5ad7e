"""Which matrices are sensed, how often, and with which factorizations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SensingGrid:
    """Square matrices of one rank, reconstructed from several numbers of Gaussian measurements.

    Half the size that Arora, Cohen, Hu & Luo (NeurIPS 2019) take. They measure about 2 and 5 times as often
    as a matrix of that rank has degrees of freedom, of which there are 291 here. But from about 587 Gaussian
    measurements on, the statistical dimension of its descent cone, the nuclear norm recovers a matrix
    (Amelunxen, Lotz, McCoy & Tropp, "Living on the Edge", 2014): 2 times, which is 600, would leave nothing
    to do better. So the few are 500, and ``convex_only`` shows what becomes of 600.
    """

    size: int = 50
    rank: int = 3
    measured: tuple[int, ...] = (500, 1_500)
    convex_only: tuple[int, ...] = (600,)
    depths: tuple[int, ...] = (2, 3, 4)
    init_scales: tuple[float, ...] = (1e-3, 1e-4, 1e-5, 1e-6)
    learning_rate: float = 1e-3
    seeds: int = 5
    steps: int = 100_000
    train_loss_threshold: float = 1e-6

    @property
    def few(self) -> int:
        """The smallest number of measurements."""
        return min(self.measured)

    @property
    def many(self) -> int:
        """The largest number of measurements."""
        return max(self.measured)

    @property
    def degrees_of_freedom(self) -> int:
        """Those of a matrix of this rank."""
        return self.rank * (2 * self.size - self.rank)

    def settings(self) -> dict[str, str]:
        """Return what a report says about the grid."""
        counts = (f"{count:,} ({count / self.degrees_of_freedom:.2f})" for count in self.measured)
        return {
            "matrix": f"{self.size} × {self.size}, U Vᵀ with Gaussian factors scaled to ‖W‖_F = {self.size}",
            "rank": str(self.rank),
            "measurements": ", ".join(counts) + ", in brackets how many for each of the "
            f"{self.degrees_of_freedom:,} degrees of freedom of a matrix of this rank",
            "measurement matrices": f"Gaussian entries of standard deviation 1/{self.size}, so that the "
            "train loss is on the scale of the reconstruction error",
            "depths": ", ".join(map(str, self.depths)) + f", all widths {self.size}",
            "initialization": "Gaussian, scales " + ", ".join(f"{scale:g}" for scale in self.init_scales),
            "optimizer": f"GroupRMSprop, learning rate {self.learning_rate:g}",
            "stopped": f"at a train loss of {self.train_loss_threshold:g}, or after {self.steps:,} steps",
            "seeds": f"{self.seeds}, each with its own matrix, measurements and starts",
            "nuclear norm": "least one that agrees with the measurements, to a relative duality gap of 1e-6",
        }


FULL = SensingGrid()
# Likewise: 39 degrees of freedom, and a statistical dimension of 81.
QUICK = SensingGrid(
    size=20,
    rank=1,
    measured=(65, 200),
    convex_only=(80,),
    init_scales=(1e-3, 1e-5),
    learning_rate=2e-3,
    seeds=2,
    steps=10_000,
)
