"""The leaderboard in a real browser: it fits, it filters, it sorts, it opens a trial."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gifthorse.bench.leaderboard.site import build_site
from gifthorse.bench.ledger import Ledger
from gifthorse.bench.runner import run_study
from gifthorse.core.errors import DataError, LedgerError

from . import tiny
from .test_trials import study

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
PHONE, DESKTOP = (390, 844), (1280, 900)
needs_browser = pytest.mark.skipif(
    DRIVER is None or BROWSER is None,
    reason="needs Debian's chromium and chromium-driver (make browser)",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    run_study(study(), root / "ledger")
    made = build_site(root / "ledger", root / "out")
    assert made.pages == 12
    return root / "out"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def sized(browser: Any, size: tuple[int, int]) -> None:
    width, height = size
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )


def texts(browser: Any, selector: str) -> list[str]:
    return [item.text for item in browser.find_elements("css selector", selector)]


@needs_browser
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_filters_sorts_and_opens_a_trial(
    site: Path, browser: Any, size: tuple[int, int]
) -> None:
    sized(browser, size)
    browser.get((site / "index.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") == size[0]
    assert len(texts(browser, "#trials tbody tr")) == 12
    assert len(texts(browser, "#repairs tbody tr")) == 2
    assert len(texts(browser, "#detectors thead th")) == 4

    field = browser.find_element("id", "filter")
    field.send_keys("badnets strip")
    assert len(texts(browser, "#trials tbody tr")) == 1
    assert texts(browser, "#shown") == ["1 of 12 trials."]
    field.clear()
    field.send_keys("x", "\b")
    assert len(texts(browser, "#trials tbody tr")) == 12

    before = texts(browser, "#repairs tbody td b")
    radio = browser.find_element("css selector", "#metrics input[value=ra] + span")
    radio.click()
    assert "Robust accuracy" in texts(browser, "#metric-help")[0]
    assert texts(browser, "#repairs tbody td b") != before

    column = "#trials [data-column=ca]"
    for sign in (-1, 1):
        button = browser.find_element("css selector", column)
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        shown = texts(browser, "#trials tbody tr td:nth-child(4)")
        numbers = [sign * float(text) for text in shown if text != "–"]
        assert numbers == sorted(numbers)

    cell = browser.find_element("css selector", "#repairs tbody td button")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    cell.click()
    assert "badnets × no defence" in texts(browser, "#cell-title")[0]
    assert [text[:3] for text in texts(browser, "#cell .track span:first-child")][:3] == [
        "CA",
        "ASR",
        "RA",
    ]
    browser.find_element("css selector", "#cell-body a").click()
    assert "/trials/" in browser.current_url
    assert browser.execute_script("return document.documentElement.scrollWidth") == size[0]
    pictures = browser.execute_script(
        "return [...document.images].map((i) => i.complete && i.naturalWidth > 0)"
    )
    assert len(pictures) >= 4
    assert all(pictures)
    browser.find_element("css selector", ".when a").click()
    assert browser.current_url.endswith("index.html")
    assert browser.get_log("browser") == []  # no script error, nothing refused by the policy


def test_it_needs_no_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "default-src 'none'" in text
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', text), page
    for name in ("trials.csv", "trials.parquet"):
        assert (site / name).stat().st_size > 100


def test_studies_that_say_the_same_say_it_once(tmp_path: Path) -> None:
    once = study().model_copy(update={"note": "said by both"})
    run_study(once, tmp_path / "ledger")
    run_study(once.model_copy(update={"title": "again"}), tmp_path / "ledger")
    build_site(tmp_path / "ledger", tmp_path / "out")
    assert (tmp_path / "out" / "index.html").read_text().count("said by both") == 1


def test_detectors_are_compared_by_curves(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert text.count('class="curve c') >= 8  # two panels of two or three, and their legends
    assert "What it costs" in text


def test_names_are_never_markup(tmp_path: Path) -> None:
    root = tmp_path / "ledger"
    run_study(tiny.study(1), root, work=tiny.empty)
    ledger = Ledger.open(root)
    record = ledger.records()[0]
    path = root / "trials" / f"{record.id}.json"
    evil = "</script><script>alert(1)</script>"
    data = json.loads(path.read_text("utf-8"))
    data["label"], data["reason"], data["notes"] = [evil, evil], evil, [evil]
    path.write_text(json.dumps(data), encoding="utf-8")
    build_site(root, tmp_path / "site")
    for page in (tmp_path / "site").rglob("*.html"):
        assert "<script>alert" not in page.read_text(encoding="utf-8")


def test_an_earlier_site_is_replaced_and_nothing_else(site: Path, tmp_path: Path) -> None:
    root = tmp_path / "ledger"
    run_study(tiny.study(1), root, work=tiny.empty)
    build_site(root, tmp_path / "site")
    (tmp_path / "site" / "trials" / "old.html").write_text("old", encoding="utf-8")
    build_site(root, tmp_path / "site")
    assert not (tmp_path / "site" / "trials" / "old.html").exists()
    with pytest.raises(DataError, match="no site of ours"):
        build_site(root, root)
    with pytest.raises(LedgerError, match="no trials yet"):
        build_site(Ledger.create(tmp_path / "empty").root, tmp_path / "other")
