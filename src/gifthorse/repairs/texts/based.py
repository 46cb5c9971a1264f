"""What repairs share that put weights of a text classifier back to those of its base."""

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.text_repairs import TextRepairSubject
from gifthorse.models.texts.classifier import TextClassifier, as_text_classifier


def model_and_base(subject: TextRepairSubject) -> tuple[TextClassifier, TextClassifier]:
    """The suspect and its base as torch knows them.

    Raises:
        NotApplicableError: There is no base, or one is no text classifier.
        ModelError: The base has weights of other shapes.
    """
    model = as_text_classifier(subject.model)
    if subject.base is None:
        raise NotApplicableError("this repair needs a base model; give --base")
    base = as_text_classifier(subject.base)
    ours = {key: tuple(p.shape) for key, p in model.module.named_parameters()}
    theirs = {key: tuple(p.shape) for key, p in base.module.named_parameters()}
    other = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if other:
        raise ModelError(
            f"{base.name} is not the base of {model.name}: {len(other)} weights are missing or of "
            f"another shape (first: {other[0]})"
        )
    return model, base
