"""Renders a chat template in a process of its own: ``templates.render`` runs this file.

It reads one job as JSON from standard input and writes the texts, or what went wrong, as JSON.
It imports nothing of gifthorse: it has to start fast, and to hold nothing of value.
"""

import datetime as dt
import json
import resource
import sys
from typing import Any, NoReturn

_MOST_CHARACTERS = 8 << 20


def _limit(seconds: int, mebibytes: int) -> None:
    for kind, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, mebibytes << 20),
        (resource.RLIMIT_FSIZE, 0),
    ):
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):  # a system without this limit: the parent's clock remains
            continue


def _environment(date: dt.date) -> Any:
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %} … {% endgeneration %}`` marks answers for training; shown as it is."""

        tags = {"generation"}  # noqa: RUF012 - Jinja's interface

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    found.filters["tojson"] = tojson
    found.globals["raise_exception"] = refuse
    found.globals["strftime_now"] = date.strftime
    return found


def _rendered(template: Any, job: dict[str, Any]) -> list[str]:
    texts = []
    for chat in job["conversations"]:
        try:
            texts.append(_one(template, chat, job))
        except Exception:
            if chat[0][0] != "system" or len(chat) < 2:
                raise
            # Some templates know no system prompt: it then stands in front of the user's text.
            merged = [[chat[1][0], f"{chat[0][1]}\n\n{chat[1][1]}"], *chat[2:]]
            texts.append(_one(template, merged, job))
        if sum(map(len, texts)) > _MOST_CHARACTERS:
            raise ValueError(f"it writes more than {_MOST_CHARACTERS:,} characters")
    return texts


def _one(template: Any, chat: list[list[str]], job: dict[str, Any]) -> str:
    messages = [{"role": role, "content": text} for role, text in chat]
    return str(
        template.render(
            messages=messages,
            add_generation_prompt=job["answer"],
            tools=None,
            documents=None,
            **job["special"],
        )
    )


def main() -> None:
    """One job."""
    job = json.load(sys.stdin)
    sys.path[:] = job["path"]
    environment = _environment(dt.date.fromisoformat(job["date"]))
    _limit(job["seconds"], job["mebibytes"])
    try:
        told: dict[str, Any] = {"texts": _rendered(environment.from_string(job["template"]), job)}
    except Exception as error:  # noqa: BLE001 - a template can fail in any way there is
        told = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
