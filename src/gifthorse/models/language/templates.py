"""Chat templates: examined as text first, then rendered in Jinja's sandbox in another process.

The sandbox keeps a template from reaching Python's insides; it does not keep one from filling
memory or running for ever (``range`` in ``range``, a string doubled forty times). The process that
renders has a second limit on both, and may not write files.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gifthorse.core.errors import ModelError
from gifthorse.provenance.files.issues import Report
from gifthorse.provenance.files.texts import examine_template

DEFAULT_DATE = "2025-01-15"
"""What templates that ask for the date are told, so that two runs read the same prompts."""
LONGEST_TEMPLATE = 1 << 20
_SECONDS = 10
_MEBIBYTES = 1024
_ROLES = ("system", "user", "assistant")

Chat = tuple[tuple[str, str], ...]
"""(role, text) of every message, in order."""


def chats(users: Sequence[str], *, system: str = "") -> list[Chat]:
    """One conversation a user's text, after the system prompt if there is one."""
    head = (("system", system),) if system else ()
    return [(*head, ("user", user)) for user in users]


def check_template(text: str, name: str) -> None:
    """Examine a chat template without rendering it.

    Raises:
        ModelError: It is too long, or reaches for Python's insides.
    """
    if len(text) > LONGEST_TEMPLATE:
        raise ModelError(
            f"{name}: a chat template of {len(text):,} characters; none is longer than "
            f"{LONGEST_TEMPLATE:,}"
        )
    report = Report()
    examine_template(text, report)
    for issue in report.issues.values():
        raise ModelError(f"{name}: {issue.text}; it was not rendered")


def render(
    template: str | None,
    conversations: Sequence[Chat],
    *,
    special: Mapping[str, str],
    name: str,
    date: str = DEFAULT_DATE,
    answer: bool = True,
) -> list[str]:
    """The prompts that conversations become.

    Args:
        template: Jinja source; None joins the texts by line breaks.
        conversations: See ``Chat``.
        special: ``bos_token``, ``eos_token`` … as the template may name them.
        name: Of the model, for messages.
        date: What ``strftime_now`` tells the template, ``YYYY-MM-DD``.
        answer: End where the assistant's answer begins (``add_generation_prompt``).

    Raises:
        ModelError: The template is hostile, fails, or needs too much time or memory.
    """
    if template is None:
        return ["\n".join(text for _, text in chat) + "\n" * answer for chat in conversations]
    check_template(template, name)
    job = {
        "path": [p for p in sys.path if p and Path(p).is_absolute()],
        "seconds": _SECONDS,
        "mebibytes": _MEBIBYTES,
        "template": template,
        "special": dict(special),
        "date": date or DEFAULT_DATE,
        "answer": answer,
        "conversations": [[list(message) for message in chat] for chat in conversations],
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own file, run by our own interpreter
            [sys.executable, "-I", str(Path(__file__).with_name("rendering.py"))],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=3 * _SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{name}: its chat template does not come to an end") from error
    return _results(done, name)


def _results(done: "subprocess.CompletedProcess[bytes]", name: str) -> list[str]:
    try:
        told = json.loads(done.stdout)
    except ValueError:
        told = None
    if done.returncode != 0 or not isinstance(told, dict):
        raise ModelError(
            f"{name}: its chat template needs more than {_SECONDS} s or {_MEBIBYTES} MiB, so it "
            "was stopped"
        )
    if "error" in told:
        raise ModelError(f"{name}: its chat template fails: {told['error']}")
    return [str(text) for text in told["texts"]]
