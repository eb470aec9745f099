"""A cache on disk: whole or not at all, on full disks, after kills, without locks, and for changed files."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import torch

from voxplan.planning.memory import cache as estimates
from voxplan.plans import cache_files, prepared
from voxplan.plans.build import Plan
from voxplan.plans.cache_files import CacheError, cached_arrays, default_cache_folder
from voxplan.plans.checkpoint import plan_content
from voxplan.plans.data import make_dataset
from voxplan.plans.volume_cache import source_stamp
from voxplan.profiling.formats.base import CaseSource, ReadOptions, VolumeSource

PlanMaker = Callable[..., Plan]
CaseWriter = Callable[..., CaseSource]
SIZES = {"image": ((4, 6), np.dtype(np.float32)), "labels": ((6,), np.dtype(np.uint8))}


def fill(arrays: cache_files.Arrays) -> None:
    arrays["image"][...] = np.arange(24).reshape(4, 6)
    arrays["labels"][...] = np.arange(6)


def unexpected(_: Any) -> None:
    msg = "the arrays were there already"
    raise AssertionError(msg)


def test_arrays_are_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    first = cached_arrays(folder, "stem", SIZES, fill, what="case a")
    second = cached_arrays(folder, "stem", SIZES, unexpected, what="case a")
    for arrays in (first, second):
        assert arrays["image"].tolist() == np.arange(24.0).reshape(4, 6).tolist()
        assert arrays["labels"].tolist() == list(range(6))
        assert not arrays["image"].flags.writeable
    assert sorted(path.name for path in folder.iterdir()) == [
        "stem.image.npy",
        "stem.labels.npy",
        "stem.lock",
    ]


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "missing", "no array"])
def test_what_cannot_be_read_is_made_anew(damage: str, tmp_path: Path) -> None:
    cached_arrays(tmp_path, "stem", SIZES, fill, what="case a")
    path = tmp_path / "stem.image.npy"
    if damage == "missing":
        path.unlink()
    elif damage == "other":
        np.save(path, np.zeros((4, 7), np.float32))
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[:-1], "empty": b"", "no array": b"PK\x03\x04" + whole}[damage])
    again = cached_arrays(tmp_path, "stem", SIZES, fill, what="case a")
    assert again["image"].ravel().tolist() == list(range(24))


def test_a_killed_process_leaves_nothing_for_long(tmp_path: Path) -> None:
    """Killed when half is written: the next one takes its place, and removes what it left."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from voxplan.plans.cache_files import cached_arrays\n"
        "sizes = {'image': ((4, 6), np.dtype(np.float32)), 'labels': ((6,), np.dtype(np.uint8))}\n"
        "def fill(arrays):\n"
        "    arrays['image'][:2] = 7\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "cached_arrays(Path(sys.argv[1]), 'stem', sizes, fill, what='case a')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("*.part"))) == 2
    assert not list(tmp_path.glob("*.npy"))
    again = cached_arrays(tmp_path, "stem", SIZES, fill, what="case a")
    assert again["image"].ravel().tolist() == list(range(24))
    assert not list(tmp_path.glob("*.part"))


def test_an_error_while_filling_leaves_nothing(tmp_path: Path) -> None:
    def fails(arrays: cache_files.Arrays) -> None:
        arrays["image"][:1] = 1
        msg = "the source is damaged"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="source is damaged"):
        cached_arrays(tmp_path, "stem", SIZES, fails, what="case a")
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    cached_arrays(tmp_path, "stem", SIZES, fill, what="case a")


def test_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lustre that is mounted without them: files of another process are then left alone."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    other = tmp_path / "stem.other.part"
    other.touch()
    arrays = cached_arrays(tmp_path, "stem", SIZES, fill, what="case a")
    assert arrays["labels"].tolist() == list(range(6))
    assert other.exists()


def write_stream(path: Path, values: np.ndarray[Any, Any]) -> VolumeSource:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(image, str(path), useCompression=True)
    return VolumeSource(paths=(path,))


FULL_DISK_PROGRAM = """
import json, sys
from pathlib import Path
from voxplan.plans import data
from voxplan.plans.checkpoint import _plan
from voxplan.profiling.formats.base import CaseSource, VolumeSource
plan = _plan(json.loads(Path(sys.argv[1], "plan.json").read_text()))
paths = [Path(sys.argv[1], name) for name in ("image.nii.gz", "label.nii.gz")]
sources = [VolumeSource(paths=(path,)) for path in paths]
case = CaseSource(id="a", images=(sources[0],), label=sources[1])
# Other processes fill the disk after the question how much room there is.
data.free_disk = lambda reader: 10**12
dataset = data.make_dataset(plan, [case], cache_folder=Path(sys.argv[2]))
print(float(dataset[0]["image"].sum()), dataset.cases[0].keep)
"""


@pytest.mark.parametrize(
    ("size", "words"), [("64k", "image.nii.gz: cannot be cached in"), ("1m", "resampled one by one")]
)
def test_a_really_full_disk(size: str, words: str, make_plan: PlanMaker, tmp_path: Path) -> None:
    """A disk in memory in a name space of mounts of its own, with room for nothing, or for streams only."""
    values = np.random.default_rng(1).integers(0, 255, (20, 96, 96)).astype(np.uint8)
    write_stream(tmp_path / "image.nii.gz", values)
    write_stream(tmp_path / "label.nii.gz", (values > 200).astype(np.uint8))
    plan = make_plan(
        spacing=(2.0, 0.5, 0.5),
        target_spacing=(2.0, 0.5, 0.5),
        spacing_unit="mm",
        loader={"cache": "disk"},
    )
    (tmp_path / "plan.json").write_text(json.dumps(plan_content(plan)))
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o size={size} none "{disk}" || exit 99\n'
        f'"{sys.executable}" -c "$PROGRAM" "{tmp_path}" "{disk}"\necho status $?; ls -A "{disk}"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PROGRAM": FULL_DISK_PROGRAM},
    )
    if "status" not in done.stdout:
        pytest.skip(f"cannot mount here ({' '.join(done.stderr.split())[:100]})")
    assert words in done.stderr
    assert "No space left on device" in done.stderr
    assert ".part" not in done.stdout
    if size == "64k":
        assert "status 1" in done.stdout
        assert "CacheError" in done.stderr
        assert "set VOXPLAN_CACHE to another disk, or the plan's cache to 'none'" in done.stderr
        return
    assert "status 0" in done.stdout
    case = CaseSource(
        id="a",
        images=(VolumeSource(paths=(tmp_path / "image.nii.gz",)),),
        label=VolumeSource(paths=(tmp_path / "label.nii.gz",)),
    )
    total = float(make_dataset(make_plan_uncached(plan), [case])[0]["image"].sum())
    assert done.stdout.split()[:2] == [str(total), "None"]


def make_plan_uncached(plan: Plan) -> Plan:
    loader = plan.loader.model_copy(update={"cache": "none"})
    return Plan(plan.name, plan.experiment.model_copy(update={"loader": loader}), plan.dataset)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"case a: cannot be cached in .*file/cache.*VOXPLAN_CACHE"):
        cached_arrays(tmp_path / "file" / "cache", "stem", SIZES, fill, what="case a")


def test_a_disk_that_fails_at_the_end_is_said_likewise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network file systems say only when data is sent that a quota is used up."""

    def full(_: Any) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(np.memmap, "flush", full)
    with pytest.raises(CacheError, match=r"case a: cannot be cached in .*Disk quota exceeded") as raised:
        cached_arrays(tmp_path, "stem", SIZES, fill, what="case a")
    assert raised.value.kind == "too-large"
    assert [path.name for path in tmp_path.iterdir()] == ["stem.lock"]


def test_a_second_run_needs_no_room(
    make_plan: PlanMaker, write_case: CaseWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the cache is used, though there would be no room to write it now."""
    rng = np.random.default_rng(2)
    image = rng.integers(0, 255, (12, 40, 40)).astype(np.uint8)
    case = write_case("a", image, image // 128, resolution=(10, 10, 10))
    plan = make_plan(spacing=(10.0, 8.0, 8.0), target_spacing=(10.0, 8.0, 8.0), loader={"cache": "disk"})
    first = make_dataset(plan, [case], cache_folder=tmp_path / "cache")
    first.prepare()
    assert first.cases[0].keep == "disk"
    monkeypatch.setattr("voxplan.plans.data.free_disk", lambda _: 0)
    assert make_dataset(plan, [case], cache_folder=tmp_path / "other").cases[0].keep is None
    again = make_dataset(plan, [case], cache_folder=tmp_path / "cache")
    assert again.cases[0].keep == "disk"
    assert torch.equal(again[1]["image"], first[1]["image"])


def test_room_is_shared_out_case_by_case(
    make_plan: PlanMaker, write_case: CaseWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one of two: the other is resampled patch by patch."""
    image = np.zeros((12, 40, 40), np.uint8)
    cases = [write_case(name, image, image, resolution=(10, 10, 10)) for name in "ab"]
    spacing = (10.0, 8.0, 8.0)
    monkeypatch.setattr("voxplan.plans.data.free_disk", lambda _: 12 * 50 * 50 * 5 + 1)
    monkeypatch.setattr("voxplan.plans.data.free_ram", lambda _: 12 * 50 * 50 * 5 + 1)
    for cache in ("ram", "disk"):
        plan = make_plan(spacing=spacing, target_spacing=spacing, loader={"cache": cache})
        dataset = make_dataset(plan, cases, cache_folder=tmp_path / "cache")
        assert [grid.keep for grid in dataset.cases] == [cache, None]


def test_ranks_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 8000

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    assert prepared.free_ram(1) == 4000
    assert prepared.free_ram(4) == 1000


@pytest.mark.parametrize("named", ["", None])
def test_a_variable_without_a_name_names_no_folder(
    named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty variable once meant the working directory here, and no cache for the estimates of memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if named is None:
        monkeypatch.delenv("VOXPLAN_CACHE")
    else:
        monkeypatch.setenv("VOXPLAN_CACHE", named)
    assert default_cache_folder() == tmp_path / "voxplan"
    assert estimates.cache_folder() == tmp_path / "voxplan" / "memory"


def test_a_cache_that_is_off(make_plan: PlanMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``VOXPLAN_CACHE=off`` is not the name of a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXPLAN_CACHE", "off")
    values = np.random.default_rng(3).integers(0, 2, (12, 32, 32)).astype(np.uint8)
    source = write_stream(tmp_path / "a.nii.gz", values)
    plan = make_plan(loader={"cache": "disk"})
    dataset = make_dataset(plan, [CaseSource(id="a", images=(source,), label=source)], training=False)
    z, y, x = dataset.locate(0).origin
    assert np.array_equal(dataset[0]["target"][0], values[z : z + 8, y : y + 16, x : x + 16])
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_stamps_change_with_what_lies_in_a_folder(tmp_path: Path) -> None:
    """A slice that is written again changes neither the folder's size nor its time."""
    folder = tmp_path / "slices"
    folder.mkdir()
    for number in range(2):
        tifffile.imwrite(folder / f"{number}.tif", np.zeros((4, 4), np.uint8))
    before = source_stamp(VolumeSource(paths=(folder,)), ReadOptions())
    assert source_stamp(VolumeSource(paths=(folder,)), ReadOptions()) == before
    state = folder.stat()
    with (folder / "1.tif").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    os.utime(folder / "1.tif", ns=(1, 1))
    assert folder.stat().st_mtime_ns == state.st_mtime_ns
    assert source_stamp(VolumeSource(paths=(folder,)), ReadOptions()) != before
