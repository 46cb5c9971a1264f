"""What an import by a pickle is good for: allowed, unknown, or dangerous.

Allowed is a closed list: what data needs and what does nothing but hold data. It follows the list
that torch's ``weights_only`` unpickler allows, plus numpy arrays, plain containers of the standard
library, and classes of scikit-learn and ``torch.nn`` if they are only put together, not called.
Dangerous is what runs code or reaches files, processes or the network; everything of the standard
library that is not allowed counts as such, because no weights need it, and so do functions of
frameworks that are called. All else is unknown, and unknown is never clean.
"""

import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

from gifthorse.provenance.files.issues import Standing
from gifthorse.provenance.files.tables import (
    ALLOWED,
    DANGEROUS_IN_FRAMEWORKS,
    DANGEROUS_PACKAGES,
    EXECUTING_BUILTINS,
    FRAMEWORKS,
    ONLY_BUILT,
    UNKNOWN_NAMES,
)


def _modern(module: str, name: str) -> tuple[str, str]:
    """Python 2 names as an unpickler of Python 3 reads them."""
    if (module, name) in NAME_MAPPING:
        return NAME_MAPPING[(module, name)]
    return IMPORT_MAPPING.get(module, module), name


def judge(module: str, name: str) -> tuple[Standing, str]:
    """How an import stands, and why.

    The result for a class that is ``only built`` holds if no arguments reach it; see ``may_call``.
    """
    modern = _modern(module, name)
    found = [_judge(*modern)]
    if modern != (module, name):
        found.append(_judge(module, name))
    # Old names are only there for Python 2; where they say nothing, the modern one decides.
    return found[0] if found[0][0] is Standing.NOTE else max(found)


def _judge(module: str, name: str) -> tuple[Standing, str]:
    if _is_allowed(module, name):
        return Standing.NOTE, "holds data"
    package = module.partition(".")[0]
    if module == "builtins":
        if name.endswith(("Error", "Exception", "Warning")) and name.isidentifier():
            return Standing.NOTE, "holds data"
        if (module, name) in UNKNOWN_NAMES:
            return Standing.UNKNOWN, "not known to be harmless"
        why = "runs code or opens files" if name in EXECUTING_BUILTINS else "no data needs it"
        return Standing.DANGEROUS, why
    if "__" in name.replace("__randomstate", "") and "." in name:
        return Standing.DANGEROUS, "reaches into an object's internals"
    if (module, name) in UNKNOWN_NAMES:
        return Standing.UNKNOWN, "not known to be harmless"
    if package in sys.stdlib_module_names or package in DANGEROUS_PACKAGES:
        return Standing.DANGEROUS, "can run code, reach files or the network, or no data needs it"
    if package in FRAMEWORKS:
        return _framework(module, name)
    return Standing.UNKNOWN, "not known to be harmless"


def _is_allowed(module: str, name: str) -> bool:
    allowed = ALLOWED.get(module, frozenset())
    return name in allowed or (
        "*DType" in allowed and re.fullmatch(r"[A-Z]\w*DType", name) is not None
    )


def _framework(module: str, name: str) -> tuple[Standing, str]:
    if only_built(module, name):
        return Standing.NOTE, "a class of which an empty object is made"
    path = f"{module}.{name}"
    if DANGEROUS_IN_FRAMEWORKS.search(path):
        return Standing.DANGEROUS, "can load or run other code"
    if "." in name:
        return Standing.DANGEROUS, "reaches into a module of a framework"
    return Standing.UNKNOWN, "not known to be harmless"


def only_built(module: str, name: str) -> bool:
    """Whether this is a class that is allowed as long as nothing is passed to it."""
    return bool(ONLY_BUILT.fullmatch(module)) and bool(re.fullmatch(r"_?[A-Z]\w*", name))


def may_call(module: str, name: str, how: str) -> tuple[Standing, str]:
    """How a *call* of an import stands; ``how`` is the pickle's operation."""
    standing, why = judge(module, name)
    if standing is Standing.DANGEROUS:
        return standing, why
    module, name = _modern(module, name)
    if _is_allowed(module, name):
        return standing, why
    if only_built(module, name) and how not in ("NEWOBJ", "NEWOBJ_EX"):
        return Standing.UNKNOWN, "is called, which runs its code"
    lowered = name[:1].islower() or name.startswith("_")
    if standing is Standing.UNKNOWN and module.partition(".")[0] in FRAMEWORKS and lowered:
        return Standing.DANGEROUS, "is a function of a framework that data does not need"
    return standing, why
