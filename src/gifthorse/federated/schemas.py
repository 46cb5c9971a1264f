"""What replies must look like, from the arrays that a server sends."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifthorse.core.clients import Layout
from gifthorse.core.errors import ModelError
from gifthorse.federated.gate import Schema

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
Arrays = Mapping[str, NDArray[Any]]


def schema_of(
    arrays: Arrays, metrics: frozenset[str] | None, buffers: tuple[str, ...] = BUFFERS
) -> Schema:
    """What replies must look like.

    Args:
        arrays: The global model, buffers included.
        metrics: Names that a client must report; None to ignore what it reports.
        buffers: Endings of the names of arrays that are not trained.

    Raises:
        ModelError: The arrays have no last layer with a weight and a bias.
    """
    still = {
        name
        for name, value in arrays.items()
        if name.endswith(buffers) or not np.issubdtype(value.dtype, np.floating)
    }
    trained = [name for name in arrays if name not in still]
    last = [
        n for n in trained if arrays[n].ndim == 2 and f"{n.removesuffix('weight')}bias" in trained
    ]
    if not last:
        raise ModelError(
            "the defences look at the last linear layer, and no array is called ….weight with a "
            f"….bias beside it; got {', '.join(arrays)}"
        )
    return Schema(
        layout=Layout(
            names=tuple(trained),
            shapes=tuple(arrays[name].shape for name in trained),
            output_weight=last[-1],
            output_bias=f"{last[-1].removesuffix('weight')}bias",
        ),
        types={name: value.dtype for name, value in arrays.items()},
        buffers={name: arrays[name].shape for name in arrays if name in still},
        metrics=metrics,
    )
