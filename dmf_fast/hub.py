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
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **parameters: Any,
    ) -> HubMatrixCompleter:
        """Load a trained estimator from the Hub, or from a folder.

        Args:
            pretrained_model_name_or_path: name of a repository on the Hub, or path of a folder.
            force_download: whether to download files that are in the cache.
            token: the access token.
            cache_dir: folder of the cache.
            local_files_only: whether to read the cache without any download.
            revision: branch, tag or commit of the repository.
            parameters: ``device``, ``n_threads``, ``verbose``, ``checkpoint`` and ``resume``, which replace
                those of the trained estimator.

        Raises:
            TypeError: ``parameters`` holds something else.
            DataError: the repository holds no model, or it is damaged.

        """
        for name in parameters.keys() - set(_NOT_ABOUT_THE_MODEL):
            raise TypeError(
                f"parameters of a trained model must be among {', '.join(_NOT_ABOUT_THE_MODEL)}, got "
                f"`{name}`; to change others, call `set_params` and fit again"
            )
        folder = pretrained_model_name_or_path
        if not Path(folder).is_dir():
            folder = snapshot_download(
                str(folder),
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        completer: HubMatrixCompleter = cls.load(folder).set_params(**parameters)
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
        chosen = getattr(self, "chosen_", f"depth {len(fitted.model.factors)}")
        seconds = self.history_["seconds"][-1] if hasattr(self, "history_") else None
        return ModelCard(
            title="Matrix completed by dmf_fast",
            data=DataFacts(
                (), *fitted.model.shape, entries, predictor.lowest, predictor.highest, predictor.training_mean
            ),
            settings=settings,
            training=TrainingFacts(getattr(self, "n_iter_", 0), seconds, chosen, measured),
            metrics={"this model": {"validation RMSE": measured[chosen]}} if chosen in measured else {},
            folder="FOLDER",
            versions={"dmf-fast": version("dmf-fast"), "torch": torch.__version__},
        )
