"""Plain SGD on one flat vector: what a client of federated learning does between two rounds.

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
Data" (arXiv:1602.05629), algorithm 1, ClientUpdate.
"""

from collections.abc import Callable

import numpy as np

from gifthorse.core.clients import Learner, LocalPlan
from gifthorse.core.types import FloatArray, IntArray, ScoreArray

Adjust = Callable[[ScoreArray, ScoreArray], ScoreArray]
"""``adjust(parameters, gradient)`` → the gradient that the step uses."""
Project = Callable[[ScoreArray], ScoreArray]
"""``project(parameters)`` → the parameters that the client goes on with."""


def train_locally(
    learner: Learner,
    start: ScoreArray,
    x: FloatArray,
    y: IntArray,
    plan: LocalPlan,
    *,
    rng: np.random.Generator,
    adjust: Adjust | None = None,
    project: Project | None = None,
) -> ScoreArray:
    """Parameters (d,) after local training from ``start`` (d,), which is not changed.

    Args:
        learner: The model.
        start: The global model.
        x: Pictures (m, c, h, w), m ≥ 1.
        y: Labels (m,).
        plan: Epochs, batch size, learning rate.
        rng: For the order of the pictures.
        adjust: Changes the gradient of every step.
        project: Changes the parameters after every step.
    """
    parameters = start.copy()
    for _ in range(plan.epochs):
        order = rng.permutation(len(y))
        for first in range(0, len(order), plan.batch_size):
            rows = order[first : first + plan.batch_size]
            gradient = learner.gradient(parameters, x[rows], y[rows])
            if adjust is not None:
                gradient = adjust(parameters, gradient)
            parameters = parameters - plan.learning_rate * gradient
            if project is not None:
                parameters = project(parameters)
    return parameters


def sample_span(learner: Learner, parameters: ScoreArray, x: FloatArray, y: IntArray) -> ScoreArray:
    """Orthonormal rows (k, d) that span the gradients of single samples, k ≤ their number.

    Args:
        learner: The model.
        parameters: Where the gradients are taken, (d,).
        x: Pictures (m, c, h, w), m ≥ 1.
        y: Labels (m,).
    """
    return span_of(
        np.stack([learner.gradient(parameters, x[i : i + 1], y[i : i + 1]) for i in range(len(y))])
    )


def span_of(gradients: ScoreArray) -> ScoreArray:
    """Orthonormal rows (k, d) that span the rows of (n, d), k ≤ n; zero rows count for nothing.

    Directions in which the normalised rows hardly differ (a variance below a thousandth of the
    largest) are left out.
    """
    lengths = np.linalg.norm(gradients, axis=1)
    rows = gradients[lengths > 1e-12] / lengths[lengths > 1e-12, None]
    if not len(rows):
        return np.zeros((0, gradients.shape[1]))
    values, vectors = np.linalg.eigh(rows @ rows.T)
    large = values > 1e-3 * values[-1]
    return np.asarray((vectors[:, large].T @ rows) / np.sqrt(values[large])[:, None])
