"""A scorer for LensKit's recommendation pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dmf_fast.completion import CompletionOptions
from dmf_fast.data import IdMap
from dmf_fast.estimator.training import train
from dmf_fast.extras import require
from dmf_fast.observations import Observations
from dmf_fast.serving import Predictor

require("`dmf_fast.lenskit`", "lenskit")

from lenskit.data import Dataset, ItemList, QueryInput, RecQuery, Vocabulary  # noqa: E402
from lenskit.pipeline import Component  # noqa: E402
from lenskit.training import Trainable, TrainingOptions  # noqa: E402


class MatrixCompletionScorer(Component[ItemList], Trainable):
    """Scores items by the ratings that deep matrix factorization predicts, as a component of LensKit.

    The configuration is a `dmf_fast.completion.CompletionOptions`, or its options as keywords, which are
    those of `dmf_fast.MatrixCompleter`, such as ``depth`` and ``steps``. The training is that of
    ``dmf-fast complete``. Scores are not clipped to the range of the ratings, so that they rank items without
    ties.

    See Ekstrand, "LensKit for Python" (CIKM 2020), for pipelines.

    Attributes:
        config: the options of the training.
        users_: the users of the training data, in the order of the rows of the model.
        items_: the items, in the order of its columns.
        predictor_: the trained `dmf_fast.serving.Predictor`.

    Example:
        >>> from lenskit import recommend, topn_pipeline
        >>> from lenskit.data import from_interactions_df
        >>> import pandas as pd
        >>> ratings = {"user_id": [1, 1, 2, 2, 3], "item_id": [7, 8, 7, 9, 8], "rating": [5.0, 3, 4, 2, 1]}
        >>> data = from_interactions_df(pd.DataFrame(ratings))
        >>> pipeline = topn_pipeline(MatrixCompletionScorer(depth=2, hidden=2))
        >>> pipeline.train(data)
        >>> recommend(pipeline, 1, n=1).ids().tolist()
        [9]

    """

    config: CompletionOptions
    users_: Vocabulary
    items_: Vocabulary
    predictor_: Predictor

    @classmethod
    def validate_config(cls, data: Mapping[str, Any] | None = None) -> CompletionOptions:
        """Return the options with these values, given by keyword or in groups, as `dump_config` returns them.

        Raises:
            TypeError: an option is unknown, or its value has the wrong type.
            ValueError: a value is out of range.

        """
        options, values = CompletionOptions(), dict(data or {})
        for group in ("fit", "recording"):
            given = values.pop(group, {})
            if isinstance(given, Mapping):
                given = replace(getattr(options, group), **given)
            options = replace(options, **{group: given})
        return options.changed(values)

    def train(self, data: Dataset, options: TrainingOptions = TrainingOptions()) -> None:  # noqa: B008
        """Train on the ratings of a data set.

        Args:
            data: a data set whose interactions have a ``rating``.
            options: ``rng`` and ``device`` override ``seed`` and ``device`` of the configuration.

        Raises:
            ValueError: the interactions have no ratings, or the training diverged.

        """
        if hasattr(self, "predictor_") and not options.retrain:
            return
        if "rating" not in data.interactions().attribute_names:
            raise ValueError("`data` must have a rating for every interaction, got interactions without any")
        config = self.config if options.device is None else replace(self.config, device=options.device)
        if options.rng is not None:
            seed = int(options.random_generator().integers(2**31 - 1))
            config = replace(config, seed=seed, fit=replace(config.fit, seed=seed))
        ratings = data.interaction_matrix(format="scipy", layout="coo", field="rating")
        observed = Observations(ratings.row, ratings.col, ratings.data, ratings.shape, dtype=torch.float32)
        ids = IdMap(data.users.ids()), IdMap(data.items.ids())
        fitted, _ = train(observed, ids, config, validation=None, clip=False)
        self.users_, self.items_, self.predictor_ = data.users, data.items, fitted.predictor

    def __call__(self, query: QueryInput, items: ItemList) -> ItemList:
        """Return the items with their predicted ratings, NaN where the user or the item is not known.

        A fallback of the pipeline can score those.

        Args:
            query: a user of the training data. Its item list, if it has one, is ignored: the model knows the
                ratings of the training data only.
            items: the items to score.

        """
        user = RecQuery.create(query).user_id
        row = None if user is None else self.users_.number(user, missing="none")
        columns = items.numbers(vocabulary=self.items_, missing="negative")
        rows = np.full(len(items), -1 if row is None else row)
        predictions = self.predictor_.predict(rows, columns)
        return ItemList(items, scores=np.where(predictions.known, predictions.values, np.nan))
