"""Which methods for pictures are shipped."""

from gifthorse.core.registry import names, plugin_class

OF_TEXTS = {"text_trigger", "response_trigger"}


def shipped(kind: str) -> set[str]:
    """Built-in methods of a kind that judge, change or attack picture classifiers."""
    return {
        name
        for name in names(kind)
        if name not in OF_TEXTS and plugin_class(kind, name).__module__.startswith("gifthorse.")
    }
