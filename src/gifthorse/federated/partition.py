"""Who holds which pictures: IID and Dirichlet splits.

Source: Hsu, Qi, Brown 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated
Visual Classification" (arXiv:1909.06335): the share of every class at every client is drawn from a
symmetric Dirichlet distribution. Deviation: drawn a class, not a client, and a client with fewer
than ``LEAST`` pictures gets some of the largest client.
"""

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import IntArray

LEAST = 8


def partition(
    labels: IntArray, clients: int, alpha: float, rng: np.random.Generator
) -> list[IntArray]:
    """Indices of every client's pictures, disjoint and complete.

    Args:
        labels: Shape (n,).
        clients: How many.
        alpha: Concentration, > 0; 0 for IID.
        rng: Source of the draw.

    Raises:
        DataError: Fewer than ``LEAST`` pictures a client.
    """
    if len(labels) < LEAST * clients:
        raise DataError(f"{len(labels)} pictures are too few for {clients} clients, {LEAST} each")
    if alpha == 0:
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), clients)]
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(rng.dirichlet([alpha] * clients)) * len(rows)).astype(int)[:-1]
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            part.extend(piece.tolist())
    while min(map(len, parts)) < LEAST:
        poor = min(parts, key=len)
        poor.append(max(parts, key=len).pop())
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]
