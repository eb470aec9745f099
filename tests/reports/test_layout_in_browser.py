"""What a person sees of the reports: nothing collapsed, clipped, overlapping or too small, on any screen."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from voxplan.scripts.phantom import write_phantom
from voxplan.scripts.profile_dataset import main as profile

WIDTHS = (1400, 800, 390)


@pytest.fixture(scope="module")
def medical_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases in NIfTI, a thousandth of a millimetre long; one has its own spacing, one cannot be read."""
    folder = tmp_path_factory.mktemp("layout")
    write_phantom(folder / "data", cases=6)
    data = folder / "data" / "nifti" / "Dataset900_Phantom"
    for name in ("imagesTr/cell_02_0000.nii.gz", "labelsTr/cell_02.nii.gz"):
        image = sitk.ReadImage(str(data / name))
        image.SetSpacing(tuple(10 * step for step in image.GetSpacing()))
        sitk.WriteImage(image, str(data / name))
    (data / "imagesTr" / "cell_03_0000.nii.gz").write_bytes(b"cut short")
    report = folder / "report.html"
    assert profile([str(data), "-o", str(folder / "f.json"), "--report", str(report), "-j", "1", "-q"]) == 0
    return report


def boxes(browser: Any, selector: str) -> list[list[float]]:
    """Left, top, width and height of every such element."""
    script = (
        f"[...document.querySelectorAll({selector!r})].map((e) => e.getBoundingClientRect())"
        ".map((r) => [r.left, r.top, r.width, r.height])"
    )
    found: list[list[float]] = browser.run(script)
    return found


@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_fill_their_card_whatever_the_unit(browser: Any, medical_report: Path, width: int) -> None:
    browser.open(medical_report, width=width)
    for card in ("cell_5f_00", "cell_5f_02"):
        row = boxes(browser, f"#case-{card} .triptych")[0]
        panels = boxes(browser, f"#case-{card} .panel")
        assert len(panels) == 3
        assert sum(panel[2] for panel in panels) > 0.93 * row[2]
        assert min(panel[3] for panel in panels) > 40


def profiled(folder: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Path:
    """The report of one volume of a spacing (ZYX) in mm."""
    import h5py

    folder.mkdir()
    volume = np.random.default_rng(0).integers(1, 200, shape).astype(np.uint8)
    with h5py.File(folder / "one.h5", "w") as file:
        stored = file.create_dataset("raw", data=volume)
        stored.attrs["resolution"] = spacing
        stored.attrs["unit"] = "mm"
    report = folder / "report.html"
    words = [str(folder / "one.h5"), "-o", str(folder / "f.json"), "--report", str(report), "-j", "1", "-q"]
    assert profile(words) == 0
    return report


def test_flat_volumes_show_their_thin_planes_below_each_other(browser: Any, tmp_path: Path) -> None:
    """20 x 100 x 100 voxels of 9 x 1 x 1 would waste most of a row of three."""
    browser.open(profiled(tmp_path / "flat", (4, 100, 100), (9, 1, 1)), width=1400)
    across, upper, lower = boxes(browser, ".panel")
    assert upper[0] == lower[0] >= across[0] + across[2]
    assert lower[1] > upper[1] + upper[3]
    assert [across[2], upper[2], lower[2]] == pytest.approx([across[2]] * 3, rel=0.01), "one scale"
    assert across[3] / across[2] == pytest.approx(1, rel=0.01)
    assert upper[3] / upper[2] == pytest.approx(0.36, rel=0.02)


def test_long_volumes_do_not_run_down_the_page(browser: Any, tmp_path: Path) -> None:
    """60 x 20 x 20 voxels of 10 x 1 x 1: 30 times as long as wide."""
    browser.open(profiled(tmp_path / "long", (60, 20, 20), (10, 1, 1)), width=1400)
    card, panels = boxes(browser, ".card")[0], boxes(browser, ".panel")
    assert max(panel[3] for panel in panels) < 1.3 * card[2]
    assert panels[1][3] / panels[1][2] == pytest.approx(30, rel=0.05)


@pytest.mark.parametrize("width", WIDTHS)
def test_enlarge_enlarges_where_it_is_offered(browser: Any, medical_report: Path, width: int) -> None:
    browser.open(medical_report, width=width)
    before = boxes(browser, "#case-cell_5f_00 .panel")
    browser.run("document.querySelector('#case-cell_5f_00 header button').click()")
    after = boxes(browser, "#case-cell_5f_00 .panel")
    assert all(large[2] > 1.5 * small[2] for small, large in zip(before, after, strict=True))
    ratios = [(box[3] / box[2]) for box in after]
    assert ratios == pytest.approx([box[3] / box[2] for box in before], rel=0.03)
    assert browser.run("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_a_case_that_stands_out_says_so_at_its_picture(browser: Any, medical_report: Path) -> None:
    browser.open(medical_report)
    assert browser.run("[...document.querySelectorAll('.card.odd')].map((c) => c.id)") == ["case-cell_5f_02"]
    said = browser.run("document.querySelector('#case-cell_5f_02').innerText")
    assert "while 4 of 5 cases have about" in said
    # 28 x 96 x 112 voxels of 4e-4 x 8e-5 x 8e-5 mm
    assert "0.0112 × 0.00768 × 0.00896 mm in all" in said


def test_paths_begin_in_the_data_folder(browser: Any, medical_report: Path) -> None:
    browser.open(medical_report)
    text = browser.run("document.querySelector('#failures-table tbody').innerText")
    assert "imagesTr/cell_03_0000.nii.gz" in text
    assert "Dataset900_Phantom" not in text
    browser.run("document.getElementById('search').focus()")
    browser.type("cell_03_0000")
    browser.run("new Promise((done) => setTimeout(done, 250))")
    assert browser.run("document.querySelectorAll('#failures-table tbody tr').length") == 1


def test_no_label_covers_another_or_is_cut(browser: Any, report: Path) -> None:
    for width in WIDTHS:
        browser.open(report, width=width)
        assert browser.overlaps() == [], width


def test_labels_of_drawings_are_large_enough(browser: Any, report: Path) -> None:
    """Nine pixels at least, as they appear."""
    for width in WIDTHS:
        browser.open(report, width=width)
        small = browser.run(
            """[...document.querySelectorAll("svg.chart text")].map((node) => [node.textContent,
                parseFloat(getComputedStyle(node).fontSize) * node.getScreenCTM().a
                || parseFloat(getComputedStyle(node).fontSize) * Math.abs(node.getScreenCTM().b)])
               .filter(([, size]) => size < 9)"""
        )
        assert small == [], width


def test_totals_stand_beside_the_bars(browser: Any, plans_report: Path) -> None:
    """Over an orange bar no ink is legible in light and dark alike."""
    browser.open(plans_report)
    chart = "svg[aria-labelledby^=memory-title]"
    bars = [[x, y, x + w, y + h] for x, y, w, h in boxes(browser, f"{chart} rect")]
    words = [[x, y, x + w, y + h] for x, y, w, h in boxes(browser, f"{chart} text")]
    assert len(bars) > 4
    assert len(words) > 6
    for a in words:
        for b in bars:
            assert min(a[2], b[2]) - max(a[0], b[0]) <= 1 or min(a[3], b[3]) - max(a[1], b[1]) <= 1


def test_tables_fit_a_wide_screen_and_sentences_a_narrow_one(browser: Any, report: Path) -> None:
    wider = (
        "[...document.querySelectorAll('%s')].filter((f) => f.scrollWidth > f.clientWidth + 1)"
        ".map((f) => f.innerText.slice(0, 60))"
    )
    browser.open(report, width=1400)
    assert browser.run(wider % ".table-frame") == []
    assert boxes(browser, ".table-frame[tabindex]") == [], "the Tab key stops where nothing scrolls"
    browser.open(report, width=390)
    assert browser.run(wider % ".table-frame:has(.prose)") == []
    assert len(boxes(browser, ".table-frame:has(#cases-table, #comparison)[tabindex]")) == 1


def test_headings_skip_no_level(browser: Any, report: Path) -> None:
    browser.open(report)
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3, h4')].map((h) => Number(h.tagName[1]))")
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_every_decision_says_what_was_chosen(browser: Any, plans_report: Path) -> None:
    browser.open(plans_report)
    tables = "table[id$=decisions] tbody tr"
    cells = "(r) => [...r.cells].slice(0, 2).map((c) => c.textContent)"
    chosen: dict[str, str] = dict(browser.run(f"[...document.querySelectorAll('{tables}')].map({cells})"))
    assert len(chosen) > 25
    for field, value in chosen.items():
        assert value, field
        assert "None" not in value, field
        assert "=" not in value, field
    assert chosen["lr"] == "0.01"
    assert chosen["transpose"] == "(0, 1, 2)"
    assert chosen["patch_size"].count(" × ") in (1, 2)


def test_on_paper(browser: Any, report: Path) -> None:
    """Nothing that only a screen can use, and nothing cut at the edge of the page."""
    browser.open(report, width=720)
    browser._call("Emulation.setEmulatedMedia", media="print", features=[])
    try:
        assert boxes(browser, "nav")[0][2] == 0
        assert all(width == 0 for _, _, width, _ in boxes(browser, ".search, .pager, .card header button"))
        assert browser.run("document.documentElement.scrollWidth - window.innerWidth") <= 0
    finally:
        browser._call("Emulation.setEmulatedMedia", media="", features=[])


def test_one_case_has_no_medians_and_no_second_curve(browser: Any, tmp_path: Path) -> None:
    write_phantom(tmp_path / "data", cases=1)
    path = tmp_path / "one.h5"
    shutil.copy(tmp_path / "data" / "hdf5" / "cell_00.h5", path)
    report = tmp_path / "report.html"
    words = [str(path), "--image-key", "raw", "--label-key", "labels", "-o", str(tmp_path / "f.json")]
    assert profile([*words, "--report", str(report), "-j", "1", "-q"]) == 0
    browser.open(report)
    names = browser.run("[...document.querySelectorAll('.figure dt')].map((n) => n.textContent)")
    assert "Shape" in names
    assert not [name for name in names if "edian" in name]
    assert browser.run("document.querySelectorAll('.outline').length") == 0
    assert browser.run("document.querySelectorAll('#numbers-0 tbody tr').length") == 1
