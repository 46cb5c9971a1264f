"""Fixtures of the whole suite: offline, slow tests on request."""

import os
import sys

import pytest

# Small models are fastest on one thread, and the workers of pytest-xdist do not fight for cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests that train real models")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Every test starts on one thread: what a network learns depends on their number."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


collect_ignore = ["thirdparty_plugin"]  # its test belongs where that package is installed
