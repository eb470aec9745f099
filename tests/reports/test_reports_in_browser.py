"""Both HTML reports in a real browser: complete, silent, sortable, searchable, reachable by keyboard."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from voxplan.profiling.fingerprint import (
    CaseFingerprint,
    ChannelStatistics,
    Failure,
    Fingerprint,
    IntensityStatistics,
    SpacingRecord,
    load_fingerprint,
)
from voxplan.profiling.report.html.report import write_report
from voxplan.scripts.phantom import write_phantom
from voxplan.scripts.profile_dataset import main as profile


def test_opens_without_a_word_and_asks_for_nothing(browser: Any, report: Path) -> None:
    for width, scheme in ((1280, "light"), (390, "dark")):
        browser.open(report, width=width, scheme=scheme)
        assert browser.complaints() == []
        asked = [address for address in browser.requests() if not address.startswith("data:image/")]
        assert set(asked) <= {report.absolute().as_uri(), "data:,"}
        wide = browser.run("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, "the page scrolls sideways"


def test_the_watch_itself(browser: Any, tmp_path: Path) -> None:
    """What the test above looks for would be seen."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<img src='gone.png'><script>console.error('heard'); undefined.x</script>", encoding="utf-8"
    )
    browser.open(page)
    said = " ".join(browser.complaints())
    assert "heard" in said
    assert "TypeError" in said
    assert any(address.endswith("gone.png") for address in browser.requests())


def test_names_no_address(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert re.findall(r"""(?:https?:)?//[a-z][^\s"'<]*""", re.sub(r"base64,[^\"]+", "", text)) == []
    assert "default-src 'none'" in text


def test_pictures_are_there(browser: Any, dataset_report: Path) -> None:
    browser.open(dataset_report)
    sizes = browser.run(
        "[...document.images].map((i) => [i.complete, i.naturalWidth, i.getBoundingClientRect().width])"
    )
    # 6 cases, 3 planes, image and labels (the middle slices of all have foreground or the fullest are shown)
    assert len(sizes) >= 6 * 3 * 2 - 4
    assert all(complete and natural > 20 and shown > 20 for complete, natural, shown in sizes)
    charts = browser.run(
        "[...document.querySelectorAll('svg.chart')].map((c) => c.getBoundingClientRect().height)"
    )
    assert len(charts) >= 7
    assert min(charts) > 80


def test_pictures_have_the_aspect_of_the_spacing(browser: Any, dataset_report: Path) -> None:
    """cell_00 is 24 x 96 x 96 voxels of 40 x 8 x 8 nm: 960 x 768 x 768 nm."""
    browser.open(dataset_report)
    boxes = browser.run(
        "[...document.querySelectorAll('#case-cell_5f_00 .panel')].map((p) => p.getBoundingClientRect())"
        ".map((r) => [r.width, r.height])"
    )
    ratios = [height / width for width, height in boxes]
    assert ratios == pytest.approx([1.0, 960 / 768, 960 / 768], rel=0.02)
    assert boxes[0][0] == pytest.approx(boxes[1][0], rel=0.01), "one scale for all three"


def test_drawings_of_plans(browser: Any, plans_report: Path) -> None:
    browser.open(plans_report)
    titles = browser.run("[...document.querySelectorAll('svg.chart > title')].map((t) => t.textContent)")
    assert titles[:3] == [
        "Predicted memory by part",
        "Memory over one training step",
        "Stages of the network",
    ]
    stacked = browser.run(
        "document.querySelectorAll('#plan-0-timeline-title').length"
        " && document.querySelectorAll('#plan-0 svg path[class^=c]').length"
    )
    assert stacked >= 5, "context, parameters, gradients, optimizer, activations"
    assert browser.run("document.querySelectorAll('#plan-0-decisions tbody tr').length") > 10
    assert "Not drawn" not in plans_report.read_text(encoding="utf-8")


def test_markup_in_names_stays_text(browser: Any, dataset_report: Path, hostile: str) -> None:
    browser.open(dataset_report)
    assert browser.run("document.body.innerText").count(hostile) >= 2
    assert browser.run("document.querySelectorAll('[onerror], [onload], img[src=x]').length") == 0
    assert browser.run("document.scripts.length - document.querySelectorAll('script[type]').length") == 1


def column(browser: Any, table: str, number: int) -> list[str]:
    script = f"[...document.querySelectorAll('#{table} tbody tr')].map((r) => r.cells[{number}].textContent)"
    found: list[str] = browser.run(script)
    return found


def test_tables_sort_by_number_and_back(browser: Any, dataset_report: Path) -> None:
    browser.open(dataset_report)
    head = "document.querySelector('#cases-table thead').rows[0].cells[1]"
    assert browser.run(f"{head}.getAttribute('aria-sort')") == "none"

    def voxels() -> list[int]:
        return [math.prod(map(int, text.split(" × "))) for text in column(browser, "cases-table", 1)]

    browser.run(f"{head}.querySelector('button').focus()")
    browser.press("Enter")
    assert browser.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    ascending = voxels()
    assert ascending == sorted(ascending)
    browser.press("Enter")
    assert browser.run(f"{head}.getAttribute('aria-sort')") == "descending"
    assert voxels() == ascending[::-1]
    assert len(set(ascending)) > 3


def test_a_failing_case_is_found_by_search(browser: Any, dataset_report: Path, broken: str) -> None:
    browser.open(dataset_report)
    browser.run("document.getElementById('search').focus()")
    browser.type("BROKEN")
    browser.run("new Promise((done) => setTimeout(done, 250))")
    assert column(browser, "failures-table", 0) == [broken]
    assert column(browser, "cases-table", 0) == []
    assert browser.run("[...document.querySelectorAll('.card')].every((c) => c.hidden)") is True
    assert "1 in “Cases that could not be profiled”" in browser.run(
        "document.getElementById('found').textContent"
    )
    browser.press("Escape")
    assert len(column(browser, "cases-table", 0)) == 6
    assert browser.run("document.getElementById('search').value") == ""


def test_labels_are_switched_by_key(browser: Any, dataset_report: Path) -> None:
    browser.open(dataset_report)
    shown = "getComputedStyle(document.querySelector('.overlay')).visibility"
    assert browser.run(shown) == "visible"
    browser.press("l")
    assert browser.run(shown) == "hidden"
    assert browser.run("document.getElementById('show-labels').checked") is False
    browser.press("l")
    assert browser.run(shown) == "visible"


def test_keyboard_and_screen_reader(browser: Any, report: Path) -> None:
    browser.open(report)
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "Skip to the report"
    browser.press("Enter")
    assert browser.run("document.activeElement.id") == "main"
    problems = browser.run(
        """(() => {
          const all = (s) => [...document.querySelectorAll(s)];
          const known = (id) => id && document.getElementById(id);
          const named = (node) => node.getAttribute("aria-label") || (node.labels && node.labels.length) ||
            (node.getAttribute("aria-labelledby") || "").split(" ").every(known);
          const found = [];
          for (const image of document.images) if (!image.alt) found.push("image without alt");
          for (const node of all("input, nav, section, svg, [role=region], article"))
            if (!named(node)) found.push("no name: " + node.outerHTML.slice(0, 80));
          for (const cell of all("thead th")) if (cell.scope !== "col") found.push("head without scope");
          for (const row of all("tbody tr")) if (row.cells[0].scope !== "row") found.push("row without head");
          for (const table of all("table")) if (!table.caption) found.push("table without caption");
          for (const one of all("button")) if (!one.textContent.trim()) found.push("button without text");
          const ids = all("[id]").map((node) => node.id);
          found.push(...ids.filter((id, place) => ids.indexOf(id) !== place).map((id) => "twice: " + id));
          for (const link of all("a[href^='#']"))
            if (!known(link.getAttribute("href").slice(1))) found.push("dead link " + link.href);
          const levels = all("h1, h2, h3, h4").map((node) => Number(node.tagName[1]));
          if (levels[0] !== 1 || levels.lastIndexOf(1) !== 0) found.push("not one h1, first");
          if (!document.documentElement.lang) found.push("no language");
          for (const mark of ["main", "nav", "header.top", "footer"])
            if (all(mark).length !== 1) found.push("landmark " + mark);
          return found;
        })()"""
    )
    assert problems == []


CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  const texts = "p, li, a, th, td, dt, dd, h1, h2, h3, h4, label, figcaption, span.noted";
  for (const node of document.querySelectorAll(texts)) {
    if (!node.innerText || !node.innerText.trim() || node.closest(".panel, [hidden]")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(node.tagName + " " + node.className + " " + ratio.toFixed(2));
  }
  return [...new Set(low)];
})()"""


def test_text_is_legible_in_light_and_dark(browser: Any, report: Path) -> None:
    """WCAG 2 AA: a contrast of 4.5 and more."""
    backgrounds = []
    for scheme in ("light", "dark"):
        browser.open(report, scheme=scheme)
        assert browser.run(CONTRAST) == [], scheme
        backgrounds.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds[0] != backgrounds[1]


def many(fingerprint: Fingerprint, number: int) -> Fingerprint:
    """The fingerprint with thousands of cases, some of them odd, and failures."""
    one = fingerprint.cases[0]
    numbers = IntensityStatistics(
        count=1000,
        mean=0,
        std=1,
        min=-5,
        max=5,
        percentile_00_5=-3,
        percentile_10=-1,
        median=0,
        percentile_90=1,
        percentile_99_5=3,
    )
    cases: list[CaseFingerprint] = []
    for place in range(number):
        shape = (100 + place % 83, 512, 512 + 16 * (place % 5))
        spacing = SpacingRecord(
            values=(1 + place % 7 / 4, 0.7, 0.7 + place % 11 / 50), unit="mm", source="header"
        )
        shifted = {
            name: getattr(numbers, name) + place % 100
            for name in ("mean", "median", "min", "max", "percentile_00_5", "percentile_99_5")
        }
        channel = ChannelStatistics(
            foreground=numbers.model_copy(update=shifted), crop=numbers, nonzero=numbers, non_finite=0
        )
        changes = {
            "id": f"patient_{place:05d}",
            "shape": (4000, 512, 512) if place == 4711 else shape,
            "shape_after_crop": shape,
            "crop_box": tuple((0, edge) for edge in shape),
            "spacing": spacing,
            "channels": (channel,),
            "class_voxels": {"0": 10**7, "1": 1000 + place, "2": 7 * place},
            "warnings": ("orientation SAR, but SPR of its label map",) if place % 10 == 0 else (),
        }
        cases.append(one.model_copy(update=changes))
    failures = tuple(
        Failure(
            id=f"lost_{place}",
            files=(f"imagesTr/lost_{place}.nii.gz",),
            kind="unreadable",
            reason=f"imagesTr/lost_{place}.nii.gz: truncated: the inflated data ends at byte {place}",
        )
        for place in range(300)
    )
    summary = fingerprint.summary.model_copy(update={"cases": number, "failures": len(failures)})
    return fingerprint.model_copy(update={"cases": tuple(cases), "failures": failures, "summary": summary})


def test_five_thousand_cases(browser: Any, dataset_report: Path, tmp_path: Path) -> None:
    fingerprint = many(load_fingerprint(dataset_report.with_name("fingerprint.json")), 5000)
    report = tmp_path / "many.html"
    write_report(fingerprint, report)
    # pictures, of which there are none here, have 2.6 MB of their own
    assert report.stat().st_size < 5_000_000 - 2_600_000
    browser.open(report)
    assert browser.complaints() == []
    assert len(column(browser, "cases-table", 0)) == 50
    pager = "document.querySelector('#cases-table').parentElement.nextElementSibling"
    assert browser.run(f"{pager}.innerText").split("\n")[-1].strip().endswith("1–50 of 5,000")
    browser.run(f"{pager}.querySelectorAll('button')[1].click()")
    assert column(browser, "cases-table", 0)[0] == "patient_00050"
    browser.run("document.querySelector('#cases-table thead button').click()")
    browser.run("document.querySelectorAll('#cases-table thead button')[1].click()")
    browser.run("document.querySelectorAll('#cases-table thead button')[1].click()")
    assert column(browser, "cases-table", 0)[0] == "patient_04711"
    browser.run("document.getElementById('search').focus()")
    browser.type("lost_299")
    browser.run("new Promise((done) => setTimeout(done, 400))")
    assert column(browser, "failures-table", 0) == ["lost_299"]


def test_of_many_cases_some_are_pictured_and_it_says_which(browser: Any, tmp_path: Path) -> None:
    write_phantom(tmp_path / "data", cases=5)
    folder = tmp_path / "data" / "tiff"
    for place in range(60):
        for kind in ("images", "labels"):
            shutil.copy(folder / kind / "cell_00.tif", folder / kind / f"more_{place:02d}.tif")
    report = tmp_path / "report.html"
    words = [str(folder), "-o", str(tmp_path / "f.json"), "--report", str(report), "-j", "1", "-q"]
    assert profile(words) == 0
    assert report.stat().st_size < 5_000_000
    browser.open(report)
    note = browser.run("document.querySelector('#pictures .note').innerText")
    assert note.startswith("48 of 65 cases: those that stand out, and others spread evenly by id")
    assert browser.run("document.querySelectorAll('.card').length") == 48
    assert "drawn as if voxels were cubes" in browser.run("document.querySelector('.card').innerText")
