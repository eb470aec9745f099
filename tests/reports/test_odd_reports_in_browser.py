"""Reports of data and networks unlike the phantom: deep, 2D, thin, with long names; and on paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from voxplan.planning.report_html.drawings import timeline_chart
from voxplan.planning.report_html.timeline import PhaseSpan, Timeline
from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.profiling.report.html.sections import class_chart
from voxplan.scripts.phantom import write_phantom
from voxplan.scripts.plan_experiment import main as plan
from voxplan.scripts.profile_dataset import main as profile

WIDTHS = (1400, 800, 390)
SMALLEST = """Math.min(...[...document.querySelectorAll("svg.chart text")].map((node) =>
  parseFloat(getComputedStyle(node).fontSize) * (node.getScreenCTM().a
  || Math.abs(node.getScreenCTM().b))))"""
LINES = """(node) => {
  const range = document.createRange();
  range.selectNodeContents(node);
  return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
}"""


def reported(folder: Path, *words: str) -> Path:
    """The report of a profile with these arguments."""
    report = folder / "report.html"
    said = [*words, "-o", str(folder / "f.json"), "--report", str(report), "-j", "1", "-q"]
    assert profile(said) == 0
    return report


def test_all_that_stands_out_is_in_the_report(browser: Any, tmp_path: Path) -> None:
    """Checks that need a dataset.json were in the fingerprint, and the report said that all is well."""
    write_phantom(tmp_path / "data", cases=3)
    data = tmp_path / "data" / "nifti" / "Dataset900_Phantom"
    said = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**said, "numTraining": 7}))
    browser.open(reported(tmp_path, str(data)))
    found = load_fingerprint(tmp_path / "f.json").outliers
    assert [outlier.kind for outlier in found] == ["case-count"]
    attention = browser.run("document.querySelector('#attention').innerText")
    assert "numTraining is 7, but there are 3 cases" in attention
    assert "none stands out" not in attention


def test_deep_networks_are_legible(browser: Any, dataset_report: Path, tmp_path: Path) -> None:
    """Nine stages down and eight up took the width of 17 boxes, which left letters of five pixels."""
    report = tmp_path / "plans.html"
    words = ["--gpu-memory", "24", "--architecture", "unet", "--configuration", "2d", "-q"]
    words += ["--set", "patch_size=1024,1024", "-o", str(tmp_path / "plans.json"), "--report", str(report)]
    assert plan([str(dataset_report.with_name("fingerprint.json")), *words]) == 0
    for width in WIDTHS:
        browser.open(report, width=width)
        assert browser.run("document.querySelectorAll('.stage').length") == 17
        assert browser.run(SMALLEST) >= 9, width
        boxes = browser.run(
            "[...document.querySelectorAll('.stage')].map((box) => box.getBoundingClientRect())"
            ".map((box) => [box.left, box.top, box.right, box.bottom])"
        )
        for place, a in enumerate(boxes):
            for b in boxes[place + 1 :]:
                apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
                assert apart, "one stage stands over another"


def test_the_line_of_reserved_memory_is_called_what_it_looks_like(browser: Any, plans_report: Path) -> None:
    browser.open(plans_report)
    drawn = "getComputedStyle(document.querySelector('%s')).strokeDasharray"
    assert browser.run(drawn % ".reserved") == "2px, 2px"
    assert browser.run(drawn % ".budget") == "6px, 4px"
    assert "the dotted line is what the allocator has reserved" in browser.run("document.body.innerText")


@pytest.mark.parametrize("peak", [2, 50, 97])
def test_the_words_of_the_peak_keep_off_those_of_the_budget(
    browser: Any, plans_report: Path, tmp_path: Path, peak: int
) -> None:
    """Where a plan all but fills its budget both stand at one height."""
    size = 2**30
    held = np.full(100, size // 2)
    held[peak] = size
    timeline = Timeline(
        parts={"activations": held},
        reserved=held,
        context=0,
        peak=peak,
        peak_operator="aten._foreach_add.List",
        peak_phase="optimizer",
        total=size,
        phases=(PhaseSpan(name="forward", start=0, stop=99),),
    )
    chart = timeline_chart("t", "unet/2d", timeline, round(1.01 * size))
    page = tmp_path / "page.html"
    style = plans_report.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    page.write_text(
        f"<!doctype html><meta charset=utf-8><style>{style}</style><div class=wide>{chart.svg}</div>",
        encoding="utf-8",
    )
    for width in WIDTHS:
        browser.open(page, width=width)
        assert browser.overlaps() == [], width


def test_headers_alone_say_nothing_of_voxels(
    browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They said that 100 % of the volume is not zero, and plans failed by zip()."""
    write_phantom(tmp_path / "data", cases=2)
    data = tmp_path / "data" / "nifti" / "Dataset900_Phantom"
    fingerprint, report = tmp_path / "f.json", tmp_path / "report.html"
    words = [str(data), "--headers-only", "-o", str(fingerprint), "-j", "1"]
    assert profile([*words, "--report", str(report)]) == 0
    shown = capsys.readouterr().out
    assert "headers only  no voxel was read" in shown
    assert "of the volume" not in shown
    assert "after crop" not in shown
    browser.open(report)
    text = browser.run("document.body.innerText")
    assert "no voxel was read" in text
    assert "Non-zero box" not in text
    assert plan([str(fingerprint), "--gpu-memory", "8", "-o", str(tmp_path / "p.json")]) == 2
    assert "as --headers-only leaves it: nothing can be planned" in capsys.readouterr().err


def test_images_have_no_slices(browser: Any, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        values = np.random.default_rng(number).integers(1, 200, (60 + number, 80), np.uint8)
        tifffile.imwrite(images / f"image_{number}.tif", values, photometric="minisblack")
    browser.open(reported(tmp_path, "--images", str(images / "*.tif"), "--spacing", "1", "1", "1"))
    captions = browser.run("[...document.querySelectorAll('.triptych figcaption')].map((c) => c.innerText)")
    assert captions == ["y × x"] * 3
    rows = browser.run(
        "[...document.querySelectorAll('svg[aria-labelledby^=shape-strip] .label')].map((l) => l.textContent)"
    )
    assert rows == ["Y", "X"]
    assert "X, voxels" in browser.run(
        "document.querySelector('svg[aria-labelledby^=shape-scatter]').textContent"
    )


def test_names_stay_on_one_line_where_there_is_room(browser: Any, tmp_path: Path) -> None:
    write_phantom(tmp_path / "data", cases=2)
    (tmp_path / "data" / "tiff" / "images" / "patient_0003.tif").write_bytes(b"cut short")
    (tmp_path / "data" / "tiff" / "labels" / "patient_0003.tif").write_bytes(b"cut short")
    report = reported(tmp_path, str(tmp_path / "data" / "tiff"))
    for width in WIDTHS:
        browser.open(report, width=width)
        name = "document.querySelector('#failures-table tbody th')"
        assert browser.run(f"{name}.innerText") == "patient_0003"
        assert browser.run(f"({LINES})({name})") == 1, width


def test_letters_of_directions_stay_off_pictures_that_are_too_thin(browser: Any, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(1, 200, (12, 29, 28)).astype(np.uint8))
    image.SetSpacing((1.0, 10.0, 2.0))
    sitk.WriteImage(image, str(tmp_path / "long.nii.gz"))
    browser.open(reported(tmp_path, str(tmp_path / "long.nii.gz")), width=390)
    panels = browser.run(
        "[...document.querySelectorAll('.panel')].map((p) => [p.clientWidth, p.clientHeight,"
        " [...p.querySelectorAll('.edge')].filter((e) => e.getClientRects().length).length])"
    )
    assert min(min(width, height) for width, height, _ in panels) < 34
    for width, height, letters in panels:
        assert letters == (0 if width <= 44 or height <= 34 else 4), (width, height)
    assert browser.run("[...document.querySelectorAll('.panel img')].every((i) => i.clientHeight > 0)")


def test_paper_is_white_and_unfolds_what_is_folded(browser: Any, plans_report: Path) -> None:
    browser.open(plans_report, scheme="dark")
    folded = "document.querySelectorAll('details:not([open])').length"
    before = browser.run(folded)
    assert before > 1
    browser.run(
        "window.addEventListener('beforeprint', () => {"
        f" window.printed = [{folded}, getComputedStyle(document.body).backgroundColor]; }})"
    )
    browser._call("Page.printToPDF")
    assert browser.run("window.printed")[0] == 0
    assert browser.run(folded) == before
    browser._call(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    try:
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        ink = browser.run("getComputedStyle(document.body).color")
        assert max(int(value) for value in ink[4:-1].split(",")) < 60
    finally:
        browser._call("Emulation.setEmulatedMedia", media="", features=[])


@pytest.mark.parametrize(("classes", "said"), [(12, None), (60, "the first 12 of 60")])
def test_classes_that_are_not_drawn_are_counted(dataset_report: Path, classes: int, said: str | None) -> None:
    fingerprint = load_fingerprint(dataset_report.with_name("fingerprint.json"))
    names = {"background": (0,)} | {f"vertebra_number_{n:02d}": (n,) for n in range(1, classes + 1)}
    labels = fingerprint.dataset.labels.model_copy(update={"classes": names})
    voxels = {str(n): 10 + n for n in range(classes + 1)}
    many = fingerprint.model_copy(
        update={
            "dataset": fingerprint.dataset.model_copy(update={"labels": labels}),
            "cases": tuple(case.model_copy(update={"class_voxels": voxels}) for case in fingerprint.cases),
            "summary": fingerprint.summary.model_copy(
                update={"class_frequencies": dict.fromkeys(names, 0.01)}
            ),
        }
    )
    chart = class_chart(many)
    assert chart is not None
    assert chart.title == "Share of each class in the cases that have it" + (f": {said}" if said else "")
    drawn = [f">verte…ber_{n:02d}<" in chart.svg for n in range(1, 13)]
    assert all(drawn), "both ends of a long name stay"
