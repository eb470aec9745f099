"""A second run: what did not change is not computed again, and what did is noticed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.profiling.formats.base import ReadOptions, Volume, VolumeSource
from voxplan.profiling.formats.tiff import TiffReader
from voxplan.scripts.profile_dataset import main

UNCHANGED = "nothing has changed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        voxels = np.random.default_rng(number).integers(1, 200, (6, 16, 16), dtype=np.uint8)
        tifffile.imwrite(data / f"c{number}.tif", voxels)
    return data


def run(data: Path, output: Path, *options: str, status: int = 0) -> None:
    assert main([str(data), "-o", str(output), "--jobs", "1", *options]) == status


def test_an_unchanged_data_set_is_answered_from_what_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.json"
    run(folder, output)
    written, table = output.read_bytes(), capsys.readouterr().out
    before = output.stat().st_mtime_ns
    run(folder, output)
    said = capsys.readouterr()
    assert UNCHANGED in said.err
    assert said.out == table
    assert output.read_bytes() == written
    assert output.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["touched", "added", "removed", "options", "output edited", "output gone"])
def test_every_change_is_noticed(
    folder: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "f.json"
    run(folder, output)
    capsys.readouterr()
    options: tuple[str, ...] = ()
    if change == "touched":
        status = (folder / "c1.tif").stat()
        os.utime(folder / "c1.tif", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "added":
        tifffile.imwrite(folder / "c3.tif", np.ones((6, 16, 16), np.uint8))
    elif change == "removed":
        (folder / "c1.tif").unlink()
    elif change == "options":
        options = ("--spacing", "4", "1", "1", "--unit", "nm")
    elif change == "output edited":
        output.write_text(output.read_text() + "\n")
    else:
        output.unlink()
    run(folder, output, *options)
    assert UNCHANGED not in capsys.readouterr().err
    fresh = tmp_path / "g.json"
    run(folder, fresh, "--fresh", *options)
    first, second = (load_fingerprint(path) for path in (output, fresh))
    assert first.model_copy(update={"provenance": second.provenance}) == second
    run(folder, output, *options)
    assert UNCHANGED in capsys.readouterr().err


def test_a_failure_that_another_run_may_not_meet_is_tried_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import voxplan.profiling.case as case

    real = case.profile_case

    def short_of_memory(source: case.CaseSource, *rest: object) -> case.CaseResult:
        if source.id == "c1":
            raise MemoryError
        return real(source, *rest)  # type: ignore[arg-type]

    output = tmp_path / "f.json"
    monkeypatch.setattr(case, "profile_case", short_of_memory)
    run(folder, output)
    assert [failure.kind for failure in load_fingerprint(output).failures] == ["memory"]
    monkeypatch.undo()
    run(folder, output)
    assert UNCHANGED not in capsys.readouterr().err
    assert load_fingerprint(output).failures == ()


def test_a_changed_spacing_sidecar_is_noticed(folder: Path, tmp_path: Path) -> None:
    """The sidecar decides the spacing, though it is no file of the case."""
    output = tmp_path / "f.json"
    run(folder, output)
    assert load_fingerprint(output).cases[0].spacing.source == "missing"
    (folder / "c0.json").write_text(json.dumps({"spacing": [4.0, 1.0, 1.0]}))
    run(folder, output)
    assert load_fingerprint(output).cases[0].spacing.values == (4.0, 1.0, 1.0)
    (folder / "c0.json").write_text(json.dumps({"spacing": [5.0, 1.0, 1.0]}))
    run(folder, output)
    assert load_fingerprint(output).cases[0].spacing.values == (5.0, 1.0, 1.0)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_changed_voxels_of_a_detached_header_are_noticed(tmp_path: Path, suffix: str) -> None:
    data, output = tmp_path / "data", tmp_path / "f.json"
    data.mkdir()
    path = data / f"c0{suffix}"
    for value in (3, 7):
        voxels = sitk.GetImageFromArray(np.full((4, 6, 8), value, np.uint8))
        header = path.read_bytes() if path.exists() else None
        status = path.stat() if path.exists() else None
        sitk.WriteImage(voxels, str(path))
        if header is not None and status is not None:
            assert path.read_bytes() == header
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        run(data, output)
        channel = load_fingerprint(output).summary.channels[0]
        assert channel.pooled is not None
        assert channel.pooled.mean == value


def write_hdf5(folder: Path) -> str:
    with h5py.File(folder / "a.h5", "w") as file:
        file["raw"], file["labels"] = VOXELS, (VOXELS > 99).astype(np.uint8)
    return ""


def write_slices(folder: Path) -> str:
    for number, plane in enumerate(VOXELS):
        tifffile.imwrite(folder / f"{number:02}.tif", plane)
    return ""


def write_png_pair(folder: Path) -> str:
    for name, volume in (("images", VOXELS), ("labels", VOXELS // 128)):
        (folder / name).mkdir()
        for number, plane in enumerate(volume):
            (folder / name / f"{number}.png").write_bytes(imagecodecs.png_encode(plane))
    return ""


def write_zarr(folder: Path) -> str:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(folder / "a.zarr"), mode="w")
    group.create_array("raw", shape=VOXELS.shape, chunks=(2, 8, 8), dtype="u1")[...] = VOXELS
    return "a.zarr"


def write_dicom(folder: Path) -> str:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, plane in enumerate(VOXELS):
        image = sitk.GetImageFromArray(plane.astype(np.int16))
        for tag, value in (
            ("0008|0060", "CT"),
            ("0020|000d", "1.2"),
            ("0020|000e", "1.2.3"),
            ("0020|0032", f"0\\0\\{number * 2.5}"),
            ("0020|0037", "1\\0\\0\\0\\1\\0"),
        ):
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(image)
    return ""


VOXELS = np.random.default_rng(5).integers(1, 200, (6, 16, 16), dtype=np.uint8)
WRITERS = (write_hdf5, write_slices, write_png_pair, write_zarr, write_dicom)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to see what C libraries open")
def test_a_second_run_opens_no_file_of_the_data(
    write: Callable[[Path], str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Seen from outside: HDF5, GDCM and zarr open files that Python knows nothing of."""
    data = tmp_path / "data"
    data.mkdir()
    place = data / write(data)
    first = sorted(path for path in data.rglob("*") if path.is_file())[0]
    command = [sys.executable, "-m", "voxplan.scripts.profile_dataset", str(place), "-o", "f.json", "-q"]
    for opened, touched in ((True, False), (False, False), (True, True)):
        if touched:
            os.utime(first, ns=(1, 1))
        log = tmp_path / "log"
        trace = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", str(log)]
        done = subprocess.run([*trace, *command, "--jobs", "1"], cwd=tmp_path, check=False)
        if done.returncode and "ptrace" in capfd.readouterr().err:
            pytest.skip("strace may not trace here")
        assert done.returncode == 0
        lines = [line for line in log.read_text().splitlines() if "O_DIRECTORY" not in line]
        assert any(f'"{data}/' in line for line in lines) == opened


@pytest.mark.parametrize("change", ["content", "added", "removed", "label added"])
def test_changes_below_a_folder_of_containers_are_noticed(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path, tmp_path / "f.json"  # the output lies in the data folder
    write_hdf5(data)
    run(data, output)
    run(data, output)
    assert UNCHANGED in capsys.readouterr().err
    if change == "content":
        with h5py.File(data / "a.h5", "a") as file:
            file["raw"][0, 0, 0] = 255
    elif change == "added":
        shutil.copy(data / "a.h5", data / "b.h5")
    elif change == "removed":
        shutil.copy(data / "a.h5", data / "b.h5")
        run(data, output)
        (data / "a.h5").unlink()
    else:
        (data / "labels").mkdir()
        (data / "images").mkdir()
        shutil.move(data / "a.h5", data / "images" / "a.h5")
        tifffile.imwrite(data / "labels" / "a.tif", (VOXELS > 150).astype(np.uint8))
    capsys.readouterr()
    run(data, output)
    assert UNCHANGED not in capsys.readouterr().err
    first = load_fingerprint(output)
    run(data, output, "--fresh")
    second = load_fingerprint(output)
    assert first.model_copy(update={"provenance": second.provenance}) == second


def test_its_own_files_are_no_part_of_the_data(tmp_path: Path) -> None:
    write_hdf5(tmp_path)
    (tmp_path / "notes.txt").touch()
    output = tmp_path / "f.json"
    for options in ((), ("--fresh", "--report", str(tmp_path / "r.html"))):
        run(tmp_path, output, *options)
        left_out = [text for text in load_fingerprint(output).summary.warnings if "left out" in text]
        assert left_out == [f"{tmp_path}: left out, not a volume: notes.txt"]
        assert not any("not searched" in text for text in load_fingerprint(output).summary.warnings)


def test_files_behind_links_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data folders made of links are common (git-annex, and whoever has little disk)."""
    store, data, output = tmp_path / "root" / "store", tmp_path / "root" / "data", tmp_path / "f.json"
    for folder in (store, data):
        folder.mkdir(parents=True)
    write_hdf5(store)
    (data.parent / "data" / "a.h5").symlink_to(store / "a.h5")
    run(data.parent, output, "--images", "data", "--exclude", "store/*")
    run(data.parent, output, "--images", "data", "--exclude", "store/*")
    assert UNCHANGED in capsys.readouterr().err
    with h5py.File(store / "a.h5", "a") as file:
        file["raw"][0, 0, 0] = 255
    run(data.parent, output, "--images", "data", "--exclude", "store/*")
    assert UNCHANGED not in capsys.readouterr().err


def test_other_keys_of_the_same_file_are_another_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "data", tmp_path / "f.json"
    data.mkdir()
    with h5py.File(data / "a.h5", "w") as file:
        file["one"], file["two"] = VOXELS, VOXELS + 50
    for key, low in (("one", VOXELS.min()), ("two", VOXELS.min() + 50)):
        run(data, output, "--image-key", key)
        pooled = load_fingerprint(output).summary.channels[0].pooled
        assert pooled is not None
        assert pooled.min == low
    assert UNCHANGED not in capsys.readouterr().err


@pytest.mark.parametrize("fault", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_could_not_be_read_for_now_is_tried_again(
    fault: int,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither size nor time of a file changes when its permissions do, or when a disk is back."""
    real = TiffReader.open

    def refuse(self: TiffReader, source: VolumeSource, options: ReadOptions) -> Volume:
        if source.paths[0].name == "c1.tif":
            raise OSError(fault, os.strerror(fault), str(source.paths[0]))
        return real(self, source, options)

    output = tmp_path / "f.json"
    monkeypatch.setattr(TiffReader, "open", refuse)
    run(folder, output)
    (failure,) = load_fingerprint(output).failures
    assert (failure.kind, failure.id) == ("access", "c1")
    assert failure.reason.startswith(f"{folder / 'c1.tif'}: cannot be read here and now ([Errno {fault}]")
    monkeypatch.undo()
    run(folder, output)
    assert UNCHANGED not in capsys.readouterr().err
    assert load_fingerprint(output).failures == ()


def test_a_package_that_was_missing_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zarr(tmp_path)
    write_hdf5(tmp_path)
    output = tmp_path / "f.json"
    options = ("--image-key", "raw", "--labels", "none")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "zarr", None)
        (tmp_path / "a.h5").rename(tmp_path / "b.h5")
        run(tmp_path, output, *options)
    assert [failure.kind for failure in load_fingerprint(output).failures] == ["missing-extra"]
    run(tmp_path, output, *options)
    assert load_fingerprint(output).failures == ()
    assert len(load_fingerprint(output).cases) == 2


def test_own_files_leave_out_nothing_of_the_same_name(tmp_path: Path) -> None:
    for organ in ("liver", "spleen"):
        (tmp_path / "data" / organ).mkdir(parents=True)
        tifffile.imwrite(tmp_path / "data" / organ / "a.tif", VOXELS)
    output = tmp_path / "liver"
    run(tmp_path / "data", output)
    assert [case.id for case in load_fingerprint(output).cases] == ["liver/a", "spleen/a"]


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full((4, 6, 8), value, np.uint8), photometric="minisblack")


def profiled_mean(output: Path) -> float:
    pooled = load_fingerprint(output).summary.channels[0].pooled
    assert pooled is not None
    return pooled.mean


def test_changes_in_hidden_folders_that_a_glob_names_are_noticed(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "f.json"
    for value in (3, 7):
        write_image(data / ".cache" / "a.tif", value)
        run(data, output, "--images", ".*/*.tif")
        assert profiled_mean(output) == value


def test_changes_of_hidden_files_that_a_datalist_names_are_noticed(tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "f.json"
    data.mkdir()
    (data / "dataset.json").write_text(json.dumps({"training": [{"image": ".images/a.tif"}]}))
    for value in (3, 7):
        write_image(data / ".images" / "a.tif", value)
        run(data, output)
        assert profiled_mean(output) == value


def test_changes_at_an_address_beside_a_data_folder_are_noticed(tmp_path: Path) -> None:
    """``file://`` is a place of its own, not one below the data folder."""
    zarr = pytest.importorskip("zarr")
    data, store, output = tmp_path / "data", tmp_path / "a.zarr", tmp_path / "f.json"
    data.mkdir()
    for value in (3, 7):
        array = zarr.open_array(str(store), mode="w", shape=(4, 6, 8), chunks=(4, 6, 8), dtype="u1")
        array[...] = value
        run(data, output, "--images", f"file://{store}")
        assert profiled_mean(output) == value


def write_detached(folder: Path, value: int) -> None:
    path = folder / "c0.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 6, 8), value, np.uint8)), str(path))
    (folder / "c0.raw").replace(folder / "voxels")
    path.write_text(path.read_text().replace("c0.raw", "voxels"))


def write_listed(folder: Path, value: int) -> None:
    write_detached(folder, value)
    path = folder / "c0.mhd"
    voxels = np.full((4, 6, 8), value, np.uint8)
    for number, plane in enumerate(voxels):
        (folder / f"plane{number}").write_bytes(plane.tobytes())
    path.write_text(path.read_text().replace("voxels", "LIST\n" + "\n".join(f"plane{n}" for n in range(4))))


def write_linked(folder: Path, value: int) -> None:
    with h5py.File(folder / "voxels.part", "w") as file:
        file["v"] = np.full((4, 6, 8), value, np.uint8)
    if not (folder / "c0.h5").exists():
        with h5py.File(folder / "c0.h5", "w") as file:
            file["raw"] = h5py.ExternalLink("voxels.part", "/v")


def write_virtual(folder: Path, value: int) -> None:
    with h5py.File(folder / "voxels.part", "w") as file:
        file["v"] = np.full((4, 6, 8), value, np.uint8)
    if not (folder / "c0.h5").exists():
        layout = h5py.VirtualLayout((4, 6, 8), np.uint8)
        layout[:] = h5py.VirtualSource("voxels.part", "v", (4, 6, 8))
        with h5py.File(folder / "c0.h5", "w") as file:
            file.create_virtual_dataset("raw", layout)


@pytest.mark.parametrize("place", ["folder", "file"])
@pytest.mark.parametrize("write", [write_detached, write_listed, write_linked, write_virtual])
def test_changed_voxels_in_files_that_only_the_header_names_are_noticed(
    tmp_path: Path, write: Callable[[Path, int], None], place: str
) -> None:
    data, output = tmp_path / "data", tmp_path / "f.json"
    data.mkdir()
    for value in (3, 7, 9):
        held = {path: path.stat() for path in data.glob("c0.*")}
        write(data, value)
        for path, status in held.items():
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        (path,) = data.glob("c0.*")
        options = ("--image-key", "raw") if path.suffix == ".h5" else ()
        run(data if place == "folder" else path, output, *options)
        channel = load_fingerprint(output).summary.channels[0]
        assert channel.pooled is not None
        assert channel.pooled.mean == value


@pytest.mark.parametrize("late", ["missing", "outside", "damaged"])
@pytest.mark.parametrize("write", [write_detached, write_listed, write_linked, write_virtual])
def test_what_only_the_header_names_and_comes_later_is_read(
    tmp_path: Path, write: Callable[[Path, int], None], late: str
) -> None:
    """The case failed while it was not there or not as it should be; the header is as it was."""
    data, output = tmp_path / "data", tmp_path / "f.json"
    data.mkdir()
    write(data, 7)
    (header,) = data.glob("c0.*")
    options = ("--image-key", "raw") if header.suffix == ".h5" else ()
    apart = {path: path.read_bytes() for path in data.iterdir() if path != header}
    for path, content in apart.items():
        path.unlink()
        if late == "outside":
            (tmp_path / path.name).write_bytes(content)
            path.symlink_to(tmp_path / path.name)
        elif late == "damaged":
            path.write_bytes(content[:3])
    run(data, output, *options, status=1)
    for path, content in apart.items():
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    run(data, output, *options)
    assert profiled_mean(output) == 7
