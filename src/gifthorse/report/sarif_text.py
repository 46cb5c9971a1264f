"""Text and addresses of SARIF, made from names that nobody vouches for."""

from typing import Any
from urllib.parse import quote

from gifthorse.report import words


def message(text: str) -> dict[str, Any]:
    """A message in which names can neither make links (``[text](target)``) nor placeholders."""
    escaped = words.harmless(text).replace("\\", "\\\\")
    for sign, instead in (("[", "\\["), ("]", "\\]"), ("{", "{{"), ("}", "}}")):
        escaped = escaped.replace(sign, instead)
    return {"text": escaped}


def uri(name: str) -> str:
    """A name as a URI reference: never with a scheme or host of its own choosing."""
    path = quote(words.harmless(name).replace("\\", "/"), safe="/-._~")
    if path.startswith("/"):
        return "file:///" + path.lstrip("/")
    return path or "subject"
