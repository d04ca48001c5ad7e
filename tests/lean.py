"""Programs that need only the core, programs that need an extra, and what they raise without it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection

from dmf_fast.extras import PACKAGES

# Package, what the sentence says needs it, and a program that needs it.
NEEDS = [
    ("sklearn", "`MatrixCompleter`", "from dmf_fast import MatrixCompleter"),
    ("sklearn", "`MatrixCompleter`", "import dmf_fast; dmf_fast.MatrixCompleter"),
    ("sklearn", "`MatrixCompleter`", "from dmf_fast.estimator import MatrixCompleter"),
    ("rich", "`evaluation_tables`", "from dmf_fast.evaluation import evaluation_tables"),
    ("optuna", "`tune`", "from dmf_fast.tuning import tune; tune(observed)"),
    ("matplotlib", "`plot`", "from dmf_fast.training import History; History.of_rows([{'step': 0}]).plot()"),
    ("huggingface_hub", "`dmf_fast.hub`", "import dmf_fast.hub"),
    ("lenskit", "`dmf_fast.lenskit`", "import dmf_fast.lenskit"),
    ("jinja2", "`model_card`", "from dmf_fast.serving import model_card; model_card(None)"),
    (
        "duckdb",
        "`dmf-fast prepare`",
        "from dmf_fast.data import blocks; blocks.prepare_blocks(folder / 'a.csv', folder / 'out', 1)",
    ),
]

_PRELUDE = """
import json, sys, traceback
from importlib.machinery import PathFinder
from pathlib import Path
from tempfile import TemporaryDirectory
blocked, programs = json.load(sys.stdin)
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more, **named: (
    None if name.partition(".")[0] in blocked else find(name, *more, **named)
)
with TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "a.csv").write_text("ann,7,4.5\\nbob,7,3\\nbob,9,2\\n")
    from dmf_fast import Observations
    observed = Observations([0, 1], [0, 1], [1.0, 2.0])
    results = []
    for program in programs:
        try:
            exec(program)
            results.append(None)
        except ImportError as error:
            results.append(str(error))
        except Exception:
            results.append(traceback.format_exc())
print(json.dumps(results))
"""

# Every public name, whatever it needs.
PUBLIC_NAMES = """
import inspect, pkgutil, pydoc, types
import dmf_fast
from dmf_fast.extras import MissingExtraError

hidden = set()
for info in [None, *pkgutil.iter_modules(dmf_fast.__path__, "dmf_fast.")]:
    if info is not None and not info.ispkg:
        continue
    package = __import__(info.name if info else "dmf_fast", fromlist=["x"])
    if not hasattr(package, "_sources"):
        continue
    for name in package._sources:
        try:
            getattr(package, name)
            assert name in dir(package)
        except MissingExtraError:
            hidden.add(f"{package.__name__}.{name}")
            assert name not in dir(package) and name not in package.__all__
    exec(f"from {package.__name__} import *", {})
    pydoc.render_doc(package)
assert hidden == {
    "dmf_fast.MatrixCompleter",
    "dmf_fast.estimator.MatrixCompleter",
    "dmf_fast.evaluation.evaluation_tables",
}, hidden
"""

# Every module but those of the parts that need an extra.
MODULES = """
import pkgutil
from importlib import import_module
import dmf_fast

parts = ("cli", "estimator", "experiments", "page", "hub", "lenskit")
single = ("figure_style", "training.plots", "evaluation.table")
for info in pkgutil.walk_packages(dmf_fast.__path__, "dmf_fast."):
    place = info.name.removeprefix("dmf_fast.")
    is_library = place.startswith("lib")  # has the suffix of an extension module, but is not one
    if not is_library and place.partition(".")[0] not in parts and place not in single:
        import_module(info.name)
"""

# A job from a file to recommendations, its evaluation, and every kind of run.
CORE = """
import numpy as np
import torch
import dmf_fast
from dmf_fast import completion, convex, data, evaluation, serving
from dmf_fast.experiments import low_rank_problem
from dmf_fast.training import Trial

lines = [f"u{row},{column},{row * column % 5 + 1}" for row in range(8) for column in range(9)]
(folder / "ratings.csv").write_text("\\n".join(lines))
observed = data.open_ratings(folder / "ratings.csv").observations()
options = completion.CompletionOptions.of({"steps": 5, "evaluate_every": 5, "hidden": 2})
model = completion.complete_matrix(observed, options).model
serving.Predictor.of(model, observed, centered=True, clip=True).save(folder / "model.safetensors")
predictor = serving.Predictor.load(folder / "model.safetensors")
assert len(predictor.predict([0], [1]).values) == 1
best = serving.recommend(serving.collapse(predictor.model), np.arange(3), 2).columns
relevant = evaluation.Relevant(evaluation.HeldOut([0, 1, 2], [0, 1, 2], [5.0] * 3))
assert relevant.measure(np.arange(3), np.asarray(best)).rows == 3

problem = low_rank_problem(6, 6, 1, 20, seed=0)
factors = dmf_fast.initialization.initialize("gaussian", (6, 6, 6), 1e-2, seed=0)
optimizer = lambda parameters: dmf_fast.optim.GroupRMSprop(parameters, lr=1e-3)
trial = Trial({"seed": 0}, factors, problem.train, optimizer, dmf_fast.FitOptions(steps=3))
assert len(dmf_fast.fit_many([trial], folder=folder / "grid", progress=False).summary()) == 1
dmf_fast.gradient_flow([factor.double() for factor in factors], problem.train.to(dtype=torch.float64), [0.1])
convex.minimum_nuclear_norm(problem.train)
"""


def sentence(package: str, what: str) -> str:
    """Return what has to be said where a package is missing."""
    name, extra = PACKAGES[package]
    return f"{what} needs {name}: run `pip install 'dmf-fast[{extra}]'`"


def raised_without(blocked: Collection[str], python: str = sys.executable) -> dict[str, str | None]:
    """Return what each program raises in ``python`` where some packages cannot be imported; None: nothing."""
    programs = [*(program for _, _, program in NEEDS), PUBLIC_NAMES, MODULES, CORE]
    done = subprocess.run(
        [python, "-c", _PRELUDE], input=json.dumps([list(blocked), programs]), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(programs, json.loads(done.stdout), strict=True))
