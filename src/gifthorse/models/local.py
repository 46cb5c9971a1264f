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
