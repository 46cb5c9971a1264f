"""The page in a real browser: nothing overflows, letters stay legible, dark is dark."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gifthorse.core.exhibits import BarsExhibit
from gifthorse.core.types import Verdict
from gifthorse.report.html import render_html
from gifthorse.report.rounds import render_rounds

from . import examples

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((found for found in map(shutil.which, NAMES) if found), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
PHONE, DESKTOP = 390, 1000
# Frames rather than windows: a headless window is never narrower than 500 pixels.
MEASURE = """
<script>
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, body = page.documentElement;
    const sizes = [...page.querySelectorAll("svg.chart text")].map((text) => {
      const shrunk = text.getScreenCTM().a;
      return parseFloat(frame.contentWindow.getComputedStyle(text).fontSize) * shrunk;
    });
    const late = [...page.querySelectorAll("body *")].filter((item) => {
      const box = item.getBoundingClientRect();
      return box.right > frame.clientWidth + 1 && !item.closest(".scroll, .sr, details");
    });
    found[frame.id] = {
      width: body.scrollWidth, height: body.scrollHeight,
      smallest: sizes.length ? Math.min(...sizes) : null,
      beyond: late.map((item) => item.outerHTML.slice(0, 120)),
      pictures: [...page.images].every((image) => image.complete && image.naturalWidth > 0),
    };
  }
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script><pre id="found"></pre>
"""


def browse(folder: Path, page: Path, *flags: str) -> str:
    """Run the browser once and return what it prints."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)  # noqa: S603
    return done.stdout


def crowded() -> str:
    """A page with everything that is likely to burst a layout."""
    name = "a_very_long_name_without_any_break_" * 6
    count = 3000
    chart = BarsExhibit(
        title=name,
        caption=name,
        labels=tuple(f"{name} {index}" for index in range(count)),
        values=tuple(float(index % 89) - 20 for index in range(count)),
        value_name=name,
        threshold=88.0,
        highlight=tuple(range(0, count, 50)),
    )
    finding = examples.flagged()
    assert finding.evidence is not None
    evidence = finding.evidence.model_copy(update={"exhibits": (chart,), "unit_names": (name,) * 3})
    finding = finding.model_copy(update={"evidence": evidence, "reason": name})
    record = examples.audit_of(Verdict.FLAGGED, (finding,), score=3.0, reason=name, name=name)
    subject = record.subject.model_copy(
        update={"class_names": chart.labels, "facts": {name: name, "n": 5}}
    )
    return render_html(record.model_copy(update={"subject": subject}))


needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@needs_browser
def test_pages_fit_phone_and_desktop(tmp_path: Path) -> None:
    pages = {
        "flagged": render_html(examples.audit_flagged()),
        "scan": render_html(examples.scan_flagged()),
        "repair": render_html(examples.repair(accepted=False)),
        "story": render_html(examples.story()),
        "rounds": render_rounds([examples.federated_trial()] * 2, name="rounds"),
        "crowded": crowded(),
    }
    frames = [
        f'<iframe id="{name} {width}" srcdoc="{html.escape(page)}" '
        f'style="border:0;width:{width}px;height:800px"></iframe>'
        for name, page in pages.items()
        for width in (PHONE, DESKTOP)
    ]
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text("<!DOCTYPE html>" + "".join(frames) + MEASURE, encoding="utf-8")
    output = browse(tmp_path, wrapper, "--dump-dom")
    text = re.search(r'<pre id="found">(.*?)</pre>', output, re.DOTALL)
    assert text is not None
    found: dict[str, dict[str, Any]] = json.loads(html.unescape(text.group(1)))
    assert len(found) == 2 * len(pages)
    for ident, measures in found.items():
        assert measures["width"] == int(ident.split()[1]), ident
        assert measures["beyond"] == [], ident
        assert measures["pictures"], ident
        assert measures["smallest"] is None or measures["smallest"] >= 11, ident
        assert measures["height"] > 1000, ident


@needs_browser
@pytest.mark.parametrize(("scheme", "dark"), [(1, False), (0, True)], ids=["light", "dark"])
def test_page_follows_the_colour_scheme(tmp_path: Path, scheme: int, dark: bool) -> None:
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    page.write_text(render_html(examples.audit_flagged()), encoding="utf-8")
    browse(
        tmp_path,
        page,
        f"--screenshot={shot}",
        "--window-size=800,1200",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    with Image.open(shot) as image:
        grey = np.asarray(image.convert("L"))
    assert grey.shape == (1200, 800)
    assert (grey[3, 3] < 40) if dark else (grey[3, 3] > 230)
    # Ink of the other brightness: the page is not empty.
    ink = int((grey > 180).sum() if dark else (grey < 80).sum())
    assert ink > 5000


@needs_browser
def test_page_prints(tmp_path: Path) -> None:
    page, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(render_html(examples.audit_flagged()), encoding="utf-8")
    browse(tmp_path, page, f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    assert printed.read_bytes().startswith(b"%PDF-")
