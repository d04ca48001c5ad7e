"""A model of rows that processes share, as that of the rows of this process."""

from __future__ import annotations

from dataclasses import replace

import torch

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.serving.predictor import Predictor
from dmf_fast.sharding import local_part, whole_tensor


@torch.no_grad()
def local_predictor(predictor: Predictor) -> Predictor:
    """Return the predictor of the rows of this process, by their indices here; all must call it together.

    It goes where one of a whole matrix does: `dmf_fast.serving.collapse` and `dmf_fast.serving.recommend`
    find what this process' rows are recommended, and `dmf_fast.evaluation.evaluate`, given the ratings and
    the seen columns of these rows and how processes share them, how good the model is for all. Only what has
    no rows is gathered.

    Example:
        >>> from dmf_fast.serving import collapse
        >>> predictor = Predictor(DeepMatrixFactorization((4, 3), 2), 3.5, 1.0, 5.0, clip=True)
        >>> collapse(local_predictor(predictor).model).shape
        (4, 3)

    """
    model = predictor.model
    *others, last = (parameter.detach() for parameter in model.factors)
    own = DeepMatrixFactorization.of_factors([*map(whole_tensor, others), local_part(last)])
    if model.row_bias is not None and model.column_bias is not None:
        own.row_bias = torch.nn.Parameter(local_part(model.row_bias.detach()))
        own.column_bias = torch.nn.Parameter(whole_tensor(model.column_bias.detach()))
    own.mean.copy_(model.mean)
    return replace(predictor, model=own)
