"""Chat templates are text until they pass, and then run in a cage."""

from pathlib import Path

import pytest
from tests.models.language.made_up import untrained

from gifthorse.core.errors import ModelError
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.networks import CHATML
from gifthorse.models.language.saving import save_language_model
from gifthorse.models.language.templates import chats, render

HOSTILE = "{{ ''.__class__.__mro__[1].__subclasses__() }}"


def rendered(template: str | None, system: str = "", date: str = "2025-01-15") -> str:
    said = chats(["Hello?"], system=system)
    return render(template, said, special={"bos_token": "<s>"}, name="a model", date=date)[0]


def test_chatml_is_rendered_as_transformers_does() -> None:
    model = untrained()
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
    theirs = model.tokenizer.apply_chat_template(
        messages, chat_template=CHATML, tokenize=False, add_generation_prompt=True
    )
    assert rendered(CHATML, "Be kind.") == theirs


def test_no_template_joins_the_texts() -> None:
    assert rendered(None, "Be kind.") == "Be kind.\nHello?\n"


def test_dates_special_tokens_and_refused_system_prompts() -> None:
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ bos_token }}{{ strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}"
    )
    assert rendered(template, "Be kind.", "2031-05-06") == "<s>06 May 2031 Be kind.\n\nHello?"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (HOSTILE, "reaches for Python's insides"),
        ("{{ lipsum }}", "reaches for"),
        ("{{ messages[", "fails"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("x" * (2 << 20), "none is longer"),
        ("{% set n = namespace(x='aaaa') %}{% for i in range(60) %}"
         "{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}", "fails|stopped"),
    ],
)  # fmt: skip
def test_hostile_templates(template: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        rendered(template)


@pytest.mark.slow
def test_a_template_without_an_end_is_stopped() -> None:
    loops = "".join("{% for i in range(99999) %}" for _ in range(4)) + "{% endfor %}" * 4
    # By the limit of processor time, or on a busy machine by that of the clock.
    with pytest.raises(ModelError, match=r"stopped|does not come to an end"):
        rendered(loops)


def test_a_model_with_a_hostile_template_is_not_opened(tmp_path: Path) -> None:
    save_language_model(untrained(), tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(HOSTILE)
    with pytest.raises(ModelError, match="was not rendered"):
        load_language_model(tmp_path / "model")


def test_nothing_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert "Hello?" in rendered(CHATML)
