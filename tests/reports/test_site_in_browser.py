"""The documentation site on a screen: commands are readable whole, and no table is cut."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WIDER = (
    "[...document.querySelectorAll('%s')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
    ".map((e) => e.innerText.slice(0, 60))"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)
    return folder


@pytest.mark.timeout(600)
def test_tables_and_commands_are_seen_whole(browser: Any, site: Path) -> None:
    pages = sorted(page for page in site.rglob("index.html") if "api" not in page.parts)
    assert len(pages) > 20
    for page in pages:
        browser.open(page, width=1400)
        assert browser.run(WIDER % ".md-typeset__scrollwrap") == [], page
        assert browser.run(WIDER % ":is(.language-console, .language-bash) pre > code") == [], page
    for page in pages:
        browser.open(page, width=390)
        assert browser.run("document.documentElement.scrollWidth - window.innerWidth") <= 0, page
        assert browser.run(WIDER % ".language-console pre > code") == [], page


def test_every_page_is_in_the_navigation(browser: Any, site: Path) -> None:
    browser.open(site / "index.html", width=1400)
    found = browser.run("[...document.querySelectorAll('.md-nav__link[href]')].map((a) => a.href)")
    linked = {address.removeprefix("file://").partition("#")[0] for address in found}
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix("").as_posix()
        if name != "index":
            assert any(
                address.rstrip("/").removesuffix("/index.html").endswith(f"/{name}") for address in linked
            ), name
