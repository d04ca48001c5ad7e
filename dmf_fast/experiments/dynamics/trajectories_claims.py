"""Claims of theorem 3 about trajectories of singular values, and the rules that decide them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dmf_fast.experiments.dynamics.trajectories_runs import TARGETS, SingularValuePaths
from dmf_fast.experiments.page.papers import OWN
from dmf_fast.experiments.page.section import Claim, verdict

_OBSERVED_ERROR, _FOLLOWED_ERROR, _TIMES_WORSE = 0.01, 0.05, 10
_SAME_PROPORTION = 0.05
_SOURCE = f"{OWN}, after theorem 3 of Arora et al. 2019"


def claims(observed: Sequence[SingularValuePaths], followed: Sequence[SingularValuePaths]) -> list[Claim]:
    """Decide the claims about fully and about partly observed matrices."""
    return [closed_form_holds(observed), gaps_widen(observed), whole_paths_hold(followed)]


def closed_form_holds(observed: Sequence[SingularValuePaths]) -> Claim:
    """Return the claim that singular values follow trajectories that are known before the run."""
    return Claim(
        "Where everything is observed, every singular value moves along its closed form, whatever the "
        "others do.",
        _SOURCE,
        "At every depth and for every singular value that is not zero in the end, the largest distance from "
        f"the path is at most {_OBSERVED_ERROR:.0%} of the value at the end; and the largest distance from "
        f"the path of one factor more, wherever that is, is more than {_TIMES_WORSE} times as large.",
        verdict(_near(observed, _OBSERVED_ERROR)),
        _errors(observed),
    )


def gaps_widen(observed: Sequence[SingularValuePaths]) -> Claim:
    """Return the claim that depth 1 keeps proportions and that more depth widens gaps."""
    gaps = {paths.depth: gap_at_half(paths, TARGETS) for paths in observed}
    widen = all(after < before for before, after in pairwise(gaps.values()))
    return Claim(
        "At depth 1 singular values keep their proportions; the deeper the chain, the wider the gap between "
        "them.",
        _SOURCE,
        "Where everything is observed: when σ_1 reaches half of its final value, the share that σ_2 has "
        f"reached of its own is {1 - _SAME_PROPORTION:g} to {1 + _SAME_PROPORTION:g} times as large at "
        "depth 1, and smaller with every factor more.",
        verdict(abs(gaps[1] - 1) <= _SAME_PROPORTION and widen),
        "; ".join(f"depth {depth}: {gap:.3g} times" for depth, gap in gaps.items()),
    )


def whole_paths_hold(followed: Sequence[SingularValuePaths]) -> Claim:
    """Return the claim that theorem 3 predicts trajectories of partly observed matrices."""
    return Claim(
        "Where a part is observed, theorem 3 predicts the whole paths of the leading singular values from "
        "their start and from ⟨∇ℓ(W), u_r v_rᵀ⟩ along the run.",
        _SOURCE,
        "At every depth and in every seed, the largest distance from the path is at most "
        f"{_FOLLOWED_ERROR:.0%} of the value at the end; and the largest distance from the path of one "
        f"factor more, wherever that is, is more than {_TIMES_WORSE} times as large.",
        verdict(_near(followed, _FOLLOWED_ERROR)),
        _errors(followed),
    )


def gap_at_half(paths: SingularValuePaths, targets: Sequence[float]) -> float:
    """Return the fraction of its target that σ_2 has when σ_1 reaches half of its own, over that half."""
    first, second = (paths.measured[:, place] / targets[place] for place in (0, 1))
    return float(np.interp(0.5, first, second)) / 0.5


def _near(paths: Sequence[SingularValuePaths], most: float) -> bool:
    errors = [(one.error(), one.contrast_error()) for one in paths]
    return bool(errors) and all(error <= most and other > _TIMES_WORSE * error for error, other in errors)


def _errors(paths: Sequence[SingularValuePaths]) -> str:
    depths = sorted({one.depth for one in paths})
    texts = []
    for depth in depths:
        alike = [one for one in paths if one.depth == depth]
        worst = np.max([one.error() for one in alike])
        contrast = np.min([one.contrast_error() for one in alike])
        texts.append(f"depth {depth}: at most {worst:.2%}, with one factor more at least {contrast:.0%}")
    return "; ".join(texts)
