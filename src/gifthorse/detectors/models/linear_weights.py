"""Linear weights: the last layer's row of a backdoor's target class weighs more on average.

Fields, Samragh, Javaheripi, Koushanfar & Javidi 2021, "Trojan Signatures in DNN Weights", ICCV
workshops, arXiv:2109.02836: the mean weight of each class's row in the final linear layer is
compared between classes. Needs the weights only; costs nothing.

Deviations: an externally studentised residual (Grubbs' test) instead of Dixon's Q; only unusually
*large* means count, as the paper finds them for targets. Training may well leave no such mark, so
CLEAR by this method alone means little.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.types import Evidence, Need, Null, Progress, Subject, Unit
from gifthorse.detectors.models.pictures import class_bars
from gifthorse.metrics.outliers import MIN_UNITS, StudentisedNull, studentised_residuals
from gifthorse.models.classifier import as_classifier


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearWeights:
    """Mean weight of every class in the final layer; data-free.

    Attributes:
        bias: Add the class's bias to the mean of its weights.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "Fields et al. 2021, Trojan Signatures, arXiv:2109.02836"

    bias: bool = False

    def inspect(
        self,
        subject: Subject,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
        progress: Progress,
    ) -> Evidence:
        """Studentised residual of every class's mean weight; the largest is the statistic.

        Raises:
            NotApplicableError: No classifier, fewer than four classes, or no final linear layer.
            ModelError: The weights hold NaN or infinite values.
        """
        classifier = as_classifier(subject.model)
        if classifier.n_classes < MIN_UNITS:
            raise NotApplicableError(
                f"the model has {classifier.n_classes} classes; comparing classes with each other "
                f"needs at least {MIN_UNITS}"
            )
        head = classifier.head
        if head is None:
            raise NotApplicableError(f"{classifier.name} does not end in a linear layer")
        means = head.weight.detach().double().mean(1)
        if self.bias and head.bias is not None:
            means = means + head.bias.detach().double()
        values = means.cpu().numpy()
        if not np.isfinite(values).all():
            raise ModelError(f"{classifier.name}: the last layer holds NaN or infinite weights")
        scores = studentised_residuals(values)
        order = np.argsort(-scores, kind="stable")
        progress(1, 1, "last layer")
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(scores.max()),
            suspects=order[:1].astype(np.int64),
            exhibits=(
                class_bars(
                    classifier.class_names, scores, int(order[0]), "residual of the mean weight"
                ),
            ),
        )

    def null(self, evidence: Evidence) -> Null:
        """Largest of as many studentised residuals as there are classes."""
        return StudentisedNull(len(evidence.scores))
