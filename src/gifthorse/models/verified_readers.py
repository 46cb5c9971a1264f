"""Tokenizers and processors out of verified files.

Their classes read files and nothing else, so they get copies of the verified bytes in a new
directory that only this user can enter.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gifthorse.provenance.opened import Opened


def read_copies(opened: Opened, kind: Any, options: Mapping[str, Any]) -> Any:
    """``kind.from_pretrained`` on copies of the verified bytes; weights are left out."""
    given = dict(options)
    if kind.__name__.startswith("Auto"):
        given["trust_remote_code"] = False
    with tempfile.TemporaryDirectory(prefix="gifthorse-") as place:  # made with mode 0700
        for name, content in opened.contents.items():
            if name.endswith(".safetensors"):
                continue
            target = Path(place) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return kind.from_pretrained(place, local_files_only=True, **given)
