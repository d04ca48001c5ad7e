"""A photograph of which only some pixels are observed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from matplotlib.image import imread
from numpy.typing import NDArray
from torch import Tensor

from dmf_fast.observations import Observations

Image = NDArray[np.float64]

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


def portrait(block: int) -> Image:
    """Return the portrait of Grace Hopper, gray, ``(600 // block, 512 // block)``; 0 is black, 1 white.

    It is an official photograph of the US Navy, in the public domain, that comes with Matplotlib.

    Raises a `FileNotFoundError` if Matplotlib was installed without its sample data.

    >>> portrait(block=8).shape
    (75, 64)
    """
    file = get_sample_data("grace_hopper.jpg", asfileobj=False)
    gray = imread(file) @ np.array(_LUMA) / 255
    rows, columns = (size // block for size in gray.shape)
    blocks = gray[: rows * block, : columns * block].reshape(rows, block, columns, block)
    means: Image = blocks.mean(axis=(1, 3))
    return means


@dataclass(frozen=True)
class MaskedImage:
    """An image, with 0 for black and 1 for white, and its mask of observed pixels, both ``(m, n)``."""

    image: Image
    observed: NDArray[np.bool_]

    @staticmethod
    def draw(image: Image, missing: float, seed: int) -> MaskedImage:
        """Drop a share of the pixels, drawn uniformly.

        >>> int(MaskedImage.draw(np.zeros((4, 5)), missing=0.3, seed=0).observed.sum())
        14
        """
        observed = np.ones(image.size, dtype=bool)
        dropped = np.random.default_rng(seed).choice(image.size, round(missing * image.size), replace=False)
        observed[dropped] = False
        return MaskedImage(image, observed.reshape(image.shape))

    def entries(self, observed: bool = True) -> Observations:
        """Return the pixels that are observed or missing, in standard deviations from the observed mean."""
        mask = self.observed if observed else ~self.observed
        return Observations.from_dense((self.image - self._mean) / self._deviation, mask, dtype=torch.float64)

    def completed(self, matrix: Tensor) -> Image:
        """Return the image with missing pixels filled in from a matrix in the units of `entries`."""
        pixels = np.clip(matrix.double().numpy() * self._deviation + self._mean, 0, 1)
        return np.where(self.observed, self.image, pixels)

    def error(self, completed: Image) -> float:
        """Return the mean squared error over the missing pixels."""
        return float(np.square(completed - self.image)[~self.observed].mean())

    @property
    def _mean(self) -> float:
        return float(self.image[self.observed].mean())

    @property
    def _deviation(self) -> float:
        return float(self.image[self.observed].std())
