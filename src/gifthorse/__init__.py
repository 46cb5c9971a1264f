"""gifthorse: look a gift horse in the mouth.

    record = gifthorse.audit("./model", trusted="folder:./photos")   # is this model backdoored?
    record = gifthorse.scan("npz:data.npz")                          # which samples are poisoned?
    record = gifthorse.scan_files("./download")                      # can loading it run code?
    result = gifthorse.repair("./model", trusted="folder:./photos")  # can it be saved?
    gifthorse.verify("./model", policy="trust.toml")                 # is it what was signed?
    model = gifthorse.load("./model", policy="trust.toml")           # only that is loaded

The names below are imported when they are first used, so that `import gifthorse` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gifthorse.auditing.audit import audit
    from gifthorse.auditing.guard import guard
    from gifthorse.auditing.guard_language import guard_language
    from gifthorse.auditing.language import audit_language
    from gifthorse.auditing.repair import repair
    from gifthorse.auditing.repair_language import repair_language
    from gifthorse.auditing.repair_texts import repair_texts
    from gifthorse.auditing.scan import scan
    from gifthorse.bench.plant import plant
    from gifthorse.data.sources import load as load_data
    from gifthorse.models.classifier import ImageClassifier, Preprocessing
    from gifthorse.models.language.loading import load_language_model
    from gifthorse.models.loading import load_classifier
    from gifthorse.models.verified import load
    from gifthorse.provenance.files.scan import scan_files
    from gifthorse.provenance.trusting import verify
    from gifthorse.report.write import write_report
    from gifthorse.training.secure import train_securely

_PUBLIC = {
    "ImageClassifier": "gifthorse.models.classifier",
    "Preprocessing": "gifthorse.models.classifier",
    "audit": "gifthorse.auditing.audit",
    "audit_language": "gifthorse.auditing.language",
    "guard": "gifthorse.auditing.guard",
    "guard_language": "gifthorse.auditing.guard_language",
    "load": "gifthorse.models.verified",
    "load_classifier": "gifthorse.models.loading",
    "load_language_model": "gifthorse.models.language.loading",
    "load_data": "gifthorse.data.sources",
    "plant": "gifthorse.bench.plant",
    "repair": "gifthorse.auditing.repair",
    "repair_language": "gifthorse.auditing.repair_language",
    "repair_texts": "gifthorse.auditing.repair_texts",
    "scan": "gifthorse.auditing.scan",
    "scan_files": "gifthorse.provenance.files.scan",
    "train_securely": "gifthorse.training.secure",
    "verify": "gifthorse.provenance.trusting",
    "write_report": "gifthorse.report.write",
}

__all__ = [
    "ImageClassifier",
    "Preprocessing",
    "__version__",
    "audit",
    "audit_language",
    "guard",
    "guard_language",
    "load",
    "load_classifier",
    "load_data",
    "load_language_model",
    "plant",
    "repair",
    "repair_language",
    "repair_texts",
    "scan",
    "scan_files",
    "train_securely",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gifthorse' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), "load" if name == "load_data" else name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
