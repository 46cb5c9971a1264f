"""The triggers that an audit recovered, as repairs take them."""

from collections.abc import Sequence

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Evidence, ImageData, RecoveredTrigger


def recovered_triggers(
    evidence: Sequence[Evidence], trusted: ImageData, *, most: int
) -> tuple[RecoveredTrigger, ...]:
    """Up to ``most`` triggers of the class that each evidence accuses.

    A detector may add the triggers of classes that it does not accuse; they are left out.

    Raises:
        NotApplicableError: There is none, or one does not fit the pictures.
    """
    found: list[RecoveredTrigger] = []
    for seen in evidence:
        found += [t for t in seen.triggers if t.target == seen.triggers[0].target][:most]
    if not found:
        raise NotApplicableError(
            "no evidence carries a recovered trigger; first run an audit with a detector that "
            "inverts triggers (neural_cleanse) and that flags this model, or choose "
            "fine_tuning or fine_pruning, which need none"
        )
    shape = trusted.image_shape
    for trigger in found:
        if trigger.pattern.shape != shape or trigger.mask.shape != shape[1:]:
            raise NotApplicableError(
                f"the recovered trigger has shape {trigger.pattern.shape} and the trusted "
                f"pictures {shape}; repair with the trusted pictures of the audit"
            )
    return tuple(found)
