"""Zarr stores at fsspec addresses, through the command: cached, zipped, over HTTP, in folders and globs."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxplan.profiling.case import ProfileOptions
from voxplan.profiling.extract import profile_dataset
from voxplan.profiling.fingerprint import Fingerprint, load_fingerprint
from voxplan.profiling.layouts import discover
from voxplan.scripts.data_options import data_options
from voxplan.scripts.plan_arguments import build_parser as plan_parser
from voxplan.scripts.plan_arguments import check_usage
from voxplan.scripts.profile_cluster import _folders
from voxplan.scripts.profile_dataset import main

zarr = pytest.importorskip("zarr")

IMAGE = np.random.default_rng(7).integers(1, 250, (6, 12, 10)).astype(np.uint8)
LABEL = (IMAGE > 200).astype(np.uint8)
COMMAND = [sys.executable, "-m", "voxplan.scripts.profile_dataset"]


def write_store(store: Any, image: np.ndarray[Any, Any] = IMAGE) -> None:
    group = zarr.open_group(store, mode="w")
    for name, array in (("raw", image), ("labels", LABEL)):
        group.create_array(name, shape=array.shape, chunks=(3, 6, 5), dtype="u1")[...] = array
        group[name].attrs["resolution"] = [40, 8, 8]


def zip_folder(folder: Path, archive: Path, below: Path) -> None:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            file.write(path, path.relative_to(below).as_posix())


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """``a.zarr``, a folder ``many`` of two stores, and ``a.zarr`` in two archives."""
    for name in ("a.zarr", "many/one.zarr", "many/two.zarr"):
        write_store(str(tmp_path / name))
    for name, group in (("image.zarr", "raw"), ("label.zarr", "labels")):
        array = {"raw": IMAGE, "labels": LABEL}[group]
        zarr.create_array(str(tmp_path / "pair" / name), shape=array.shape, dtype="u1")[...] = array
    zip_folder(tmp_path / "a.zarr", tmp_path / "whole.zarr.zip", tmp_path / "a.zarr")
    zip_folder(tmp_path / "a.zarr", tmp_path / "inside.zip", tmp_path)
    return tmp_path


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., Fingerprint]:
    def run(*arguments: str, jobs: int = 1) -> Fingerprint:
        output = tmp_path / "out.json"
        assert main([*arguments, "-o", str(output), "--jobs", str(jobs), "-q"]) == 0
        return load_fingerprint(output)

    return run


@pytest.fixture
def web(stores: Path) -> Iterator[str]:
    """The folder behind a web server that tells neither listings nor dates of what is inside."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def list_directory(self, path: object) -> None:  # type: ignore[override]
            self.send_error(404)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(stores))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def check_numbers(fingerprint: Fingerprint, cases: int = 1) -> None:
    """Against numpy on the whole arrays."""
    assert [case.shape for case in fingerprint.cases] == [IMAGE.shape] * cases
    foreground = IMAGE[LABEL > 0]
    for case in fingerprint.cases:
        statistics = case.channels[0].foreground
        assert statistics is not None
        assert (statistics.count, statistics.min, statistics.max) == (
            foreground.size,
            foreground.min(),
            foreground.max(),
        )
        assert statistics.mean == pytest.approx(foreground.mean(), rel=1e-12)


PLACES = {
    "local": ("{}/a.zarr", 1),
    "local ZIP": ("{}/whole.zarr.zip", 1),
    "file": ("file://{}/a.zarr", 1),
    "file folder": ("file://{}/many", 2),
    "cached": ("simplecache::file://{}/a.zarr", 1),
    "cached folder": ("simplecache::file://{}/many", 2),
    "cached glob": ("simplecache::file://{}/many/*.zarr", 2),
    "ZIP": ("zip::file://{}/whole.zarr.zip", 1),
    "in a ZIP": ("zip://a.zarr::{}/inside.zip", 1),
    "in a cached ZIP": ("zip://a.zarr::simplecache::file://{}/inside.zip", 1),
    "glob in a ZIP": ("zip://*.zarr::{}/inside.zip", 1),
}


@pytest.mark.parametrize("place", PLACES)
def test_places(place: str, stores: Path, profile: Callable[..., Fingerprint]) -> None:
    address, cases = PLACES[place]
    found = profile(address.format(stores))
    check_numbers(found, cases)
    assert found.cases[0].spacing is not None
    assert found.cases[0].spacing.values == (40, 8, 8)
    remote = address.partition(":")[0] in ("simplecache", "zip")
    assert all((":/" in name) == remote for case in found.cases for name in case.images)
    if remote:
        assert found.dataset.root.startswith(address[:12])
    else:
        assert Path(found.dataset.root).is_dir()


def test_over_http(web: str, profile: Callable[..., Fingerprint]) -> None:
    pytest.importorskip("aiohttp")
    keys = ("--image-key", "raw", "--label-key", "labels")
    check_numbers(profile(f"{web}/a.zarr", *keys))
    check_numbers(profile(f"{web}/a.zarr", *keys, "--fresh", jobs=2))
    assert profile(f"{web}/a.zarr", *keys).dataset.root == web
    check_numbers(profile("--images", f"{web}/pair/image.zarr", "--labels", f"{web}/pair/label.zarr"))


def test_arrays_that_a_server_does_not_list(
    web: str, stores: Path, tmp_path: Path, profile: Callable[..., Fingerprint], capsys: Any
) -> None:
    pytest.importorskip("aiohttp")
    assert main([f"{web}/a.zarr", "-o", str(tmp_path / "o.json")]) == 1
    assert "that the server lists; consolidate its metadata, or state --image-key" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata of Zarr 3 is no standard yet
        zarr.consolidate_metadata(str(stores / "a.zarr"))
    check_numbers(profile(f"{web}/a.zarr"))


def test_what_a_server_does_not_date_is_read_again(web: str, stores: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    output = tmp_path / "out.json"
    place = [f"{web}/a.zarr", "--image-key", "raw", "--label-key", "labels"]
    command = [*COMMAND, *place, "-o", str(output), "--jobs", "1"]
    for image in (IMAGE, IMAGE + 1):
        write_store(str(stores / "a.zarr"), image)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "unchanged" not in done.stderr
        statistics = load_fingerprint(output).cases[0].channels[0].foreground
        assert statistics is not None
        assert statistics.min == image[LABEL > 0].min()


def test_a_changed_store_at_an_address_is_noticed(stores: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    command = [*COMMAND, f"zip::file://{stores}/whole.zarr.zip", "-o", str(output), "--jobs", "1"]
    subprocess.run(command, capture_output=True, check=True)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "nothing has changed" in again.stderr
    write_store(str(stores / "b.zarr"), IMAGE + 1)
    zip_folder(stores / "b.zarr", stores / "whole.zarr.zip", stores / "b.zarr")
    changed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "nothing has changed" not in changed.stderr
    statistics = load_fingerprint(output).cases[0].channels[0].foreground
    assert statistics is not None
    assert statistics.max == IMAGE.max() + 1


@pytest.mark.parametrize("scheme", ["", "file://", "simplecache::file://"])
def test_images_and_labels_at_addresses(
    scheme: str, stores: Path, profile: Callable[..., Fingerprint]
) -> None:
    images, labels = (f"{scheme}{stores}/pair/{name}.zarr" for name in ("image", "label"))
    check_numbers(profile("--images", images, "--labels", labels))
    check_numbers(profile("--images", images, "--labels", str(stores / "pair" / "label.zarr")))


def test_a_single_image_has_a_name(stores: Path, profile: Callable[..., Fingerprint]) -> None:
    found = profile("--images", str(stores / "pair" / "image.zarr"))
    assert found.cases[0].images == ("image.zarr",)
    assert found.dataset.root == str(stores / "pair")


def test_one_store_for_images_and_labels(stores: Path, profile: Callable[..., Fingerprint]) -> None:
    address = f"simplecache::file://{stores}/a.zarr"
    keys = ("--image-key", "raw", "--label-key", "labels")
    check_numbers(profile("--images", address, "--labels", address, *keys))


REFUSED = {
    "memory://v/a.zarr": (2, "memory://v/a.zarr: what lies in memory is not there for another program"),
    "simplecache::memory://v/a.zarr": (2, "what lies in memory is not there"),
    "nonsense://host/a.zarr": (1, "nonsense://host/a.zarr: cannot be opened as Zarr (Protocol not known"),
    "http://127.0.0.1:9/a.zarr": (1, "http://127.0.0.1:9/a.zarr: cannot be reached (Cannot connect to host"),
    "http://127.0.0.1:9/a.nii.gz": (1, "cannot be reached"),
    "simplecache::file:///nowhere/a.zarr": (1, "no Zarr store there (neither zarr.json nor"),
    "simplecache::file:///nowhere": (1, "no Zarr store found here; other formats are read from folders"),
    "file:///nowhere/a.zarr": (2, "no such file or folder"),
}


@pytest.mark.parametrize("address", REFUSED)
def test_refused_in_one_line(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = REFUSED[address]
    output = tmp_path / "out.json"
    command = [address, "-o", str(output), "--jobs", "1"]
    if status == 2:
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert stopped.value.code == status
    else:
        assert main(command) == status
    err = capsys.readouterr().err
    assert sum(said in line for line in err.splitlines()) == 1
    assert "Traceback" not in err
    assert not output.exists()


def test_a_missing_package_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        import s3fs  # noqa: F401 - only whether it is there
    except ImportError:
        assert main(["s3://bucket/a.zarr", "-o", str(tmp_path / "o.json")]) == 1
        assert "s3://bucket/a.zarr: needs a package for this kind of address (Install s3fs" in (
            capsys.readouterr().err
        )


def test_memory_within_one_process() -> None:
    write_store("memory://voxplan-test/m.zarr")
    dataset = discover(Path("memory://voxplan-test/m.zarr"))
    fingerprint = profile_dataset(dataset, ProfileOptions(), jobs=1)
    check_numbers(fingerprint)
    assert fingerprint.dataset.root == "memory://voxplan-test"


def test_a_folder_called_like_a_protocol_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Callable[..., Fingerprint]
) -> None:
    """No name within a data folder may make the program call a server."""
    write_store(str(tmp_path / "here" / "http:" / "127.0.0.1:9" / "a.zarr"))
    monkeypatch.chdir(tmp_path / "here")
    found = profile(".")
    check_numbers(found)
    assert found.cases[0].images == ("http:/127.0.0.1:9/a.zarr:raw",)


def test_a_datalist_names_no_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"training": [{"image": "http://127.0.0.1:9/a.zarr", "label": "http://127.0.0.1:9/b.zarr"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert main([str(tmp_path), "-o", str(tmp_path / "o.json")]) == 1
    assert "[missing-file]" in capsys.readouterr().err


def test_dask_workers_are_not_asked_for_folders_of_addresses(stores: Path) -> None:
    assert _folders(discover(Path(f"simplecache::file://{stores}/many"))) == []
    local = str(stores / "pair" / "label.zarr")
    pair = discover(None, images=f"simplecache::file://{stores}/pair/image.zarr", labels=local)
    assert set(_folders(pair)) == {stores / "pair"}


def test_the_next_command_finds_the_address(
    stores: Path, tmp_path: Path, profile: Callable[..., Fingerprint]
) -> None:
    address = f"simplecache::file://{stores}/a.zarr"
    assert data_options(profile(address)) == f"--data {address}"
    check_usage(plan_parser().parse_args([address, "-o", str(tmp_path / "plans.json")]))
