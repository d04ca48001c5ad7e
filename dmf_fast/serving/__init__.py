"""Uses of a trained model: predictions, recommendations, similar items, export and a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.serving.export import export_factors
    from dmf_fast.serving.model_card import DataFacts, ModelCard, TrainingFacts, model_card
    from dmf_fast.serving.predictor import Predictions, Predictor
    from dmf_fast.serving.recommend import Recommendations, recommend
    from dmf_fast.serving.seen_columns import SeenColumns
    from dmf_fast.serving.similar import Neighbors, similar_columns, similar_rows
    from dmf_fast.serving.two_factors import TwoFactors, collapse

__all__ = [
    "DataFacts",
    "ModelCard",
    "Neighbors",
    "Predictions",
    "Predictor",
    "Recommendations",
    "SeenColumns",
    "TrainingFacts",
    "TwoFactors",
    "collapse",
    "export_factors",
    "model_card",
    "recommend",
    "similar_columns",
    "similar_rows",
]

import_lazily(__name__)
