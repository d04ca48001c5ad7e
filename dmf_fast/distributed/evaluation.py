"""The local part of a model whose rows are distributed over processes."""

from __future__ import annotations

from dataclasses import replace

import torch

from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.serving.predictor import Predictor
from dmf_fast.sharding import local_part, whole_tensor


@torch.no_grad()
def local_predictor(predictor: Predictor) -> Predictor:
    """Return the predictor for the rows of this process, by their local indices; a collective operation.

    It can be used like that of a whole matrix: with `dmf_fast.serving.collapse` and
    `dmf_fast.serving.recommend` to make recommendations for the rows of this process, and with
    `dmf_fast.evaluation.evaluate`, given their ratings, their seen columns and the sharding, to evaluate the
    model on the rows of all processes. Only parameters that are not sharded by rows are gathered.

    Args:
        predictor: of the whole matrix.

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
