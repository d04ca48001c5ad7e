"""Trained models on the Hugging Face Hub."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dmf_fast.extras import require

require("`dmf_fast.hub`", "huggingface_hub", "sklearn", "jinja2")

from huggingface_hub import ModelHubMixin, snapshot_download  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

from dmf_fast.estimator import MatrixCompleter  # noqa: E402
from dmf_fast.serving import DataFacts, ModelCard, TrainingFacts, model_card  # noqa: E402

_NOT_ABOUT_THE_MODEL = ("checkpoint", "resume", "n_threads", "verbose", "device")


class HubMatrixCompleter(MatrixCompleter, ModelHubMixin):
    """A `dmf_fast.MatrixCompleter` with ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    The repository on the Hub holds the files of `MatrixCompleter.save`, with a model card as its
    ``README.md``. It holds the ratings too, unless ``keep_ratings`` is False. ``from_pretrained`` also loads
    the repositories that ``hf upload NAME FOLDER`` makes of a folder of ``dmf-fast complete``, and
    ``HubMatrixCompleter.load`` a folder that is on this machine.

    After ``hf download NAME --local-dir FOLDER``, ``dmf-fast predict`` and ``dmf-fast recommend`` read the
    folder.

    Example:
        >>> import tempfile
        >>> X = [("ann", "Alien"), ("ann", "Brazil"), ("bob", "Alien"), ("bob", "Cube"), ("eve", "Cube")]
        >>> completer = HubMatrixCompleter(hidden=2, steps=50).fit(X, [5.0, 3.0, 4.0, 2.0, 1.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     completer.save_pretrained(folder)
        ...     again = HubMatrixCompleter.from_pretrained(folder)
        >>> bool((again.predict(X) == completer.predict(X)).all())
        True
        >>> completer.push_to_hub("me/films")  # doctest: +SKIP

    """

    def _save_pretrained(self, save_directory: Path) -> None:
        check_is_fitted(self)
        self._save(save_directory, model_card(self._card()))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **_: Any,  # parameters, which the folder knows
    ) -> HubMatrixCompleter:
        folder = model_id
        if not Path(folder).is_dir():
            folder = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        completer: HubMatrixCompleter = cls.load(folder)
        return completer

    def _card(self) -> ModelCard:
        """Return the facts of a fitted estimator."""
        fitted, predictor = self._fitted, self._fitted.predictor
        entries = None if fitted.seen is None else len(fitted.seen.columns)
        settings = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if value is not None and name not in _NOT_ABOUT_THE_MODEL
        }
        measured = {name: rmse for name, rmse in getattr(self, "candidates_", {}).items() if rmse is not None}
        rmse = self.noise_variance_**0.5  # on the validation ratings, where there were any
        nearest = sorted(measured, key=lambda name: abs(measured[name] - rmse))
        chosen = nearest[0] if nearest else f"depth {len(fitted.model.factors)}"
        seconds = self.history_["seconds"][-1] if hasattr(self, "history_") else None
        return ModelCard(
            title="Matrix completed by dmf_fast",
            data=DataFacts(
                (), *fitted.model.shape, entries, predictor.lowest, predictor.highest, predictor.training_mean
            ),
            settings=settings,
            training=TrainingFacts(getattr(self, "n_iter_", 0), seconds, chosen, measured),
            metrics={"this model": {"validation RMSE": measured[chosen]}} if measured else {},
            folder="FOLDER",
            versions={"dmf-fast": version("dmf-fast"), "torch": torch.__version__},
        )
