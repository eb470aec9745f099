"""Zarr stores behind a web server, through caches and archives; changed, broken and failing servers."""

from __future__ import annotations

import functools
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from voxplan.profiling.fingerprint import load_fingerprint
from voxplan.scripts.profile_dataset import main

zarr = pytest.importorskip("zarr")
pytest.importorskip("aiohttp")

IMAGE = np.random.default_rng(7).integers(1, 250, (6, 12, 10)).astype(np.uint8)
KEY = ("--image-key", "raw", "--labels", "none")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files without listings, as object stores and most web servers give them."""

    def log_message(self, *arguments: object) -> None:
        pass

    def list_directory(self, path: object) -> None:  # type: ignore[override]
        self.send_error(404)


class Ranges(Handler):
    """Parts of files too."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = self.headers.get("Range")
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        start, end = wanted.removeprefix("bytes=").split("-")
        first = int(start) if start else max(0, len(content) - int(end))
        last = int(end) if start and end else len(content) - 1
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class Failing(Handler):
    """Fails at half of the chunks, as a test says: an error, no answer, or less than was promised."""

    how = ""

    def do_HEAD(self) -> None:
        self._answer(super().do_HEAD)

    def do_GET(self) -> None:
        self._answer(super().do_GET)

    def _answer(self, usual: Callable[[], None]) -> None:
        if not self.how or "/c/1/" not in self.path:
            usual()
        elif self.how.isdigit():
            self.send_error(int(self.how))
        elif self.how == "broken":
            self.close_connection = True
        else:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"few")
            self.close_connection = True


@contextmanager
def serving(folder: Path, handler: type[Handler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def write_site(folder: Path, image: NDArray[np.uint8]) -> None:
    """``a.zarr`` (half of its chunks never written) and the same in ``b.zip``."""
    image = image.copy()
    image[:, :, 5:] = 0
    group = zarr.open_group(str(folder / "a.zarr"), mode="a")
    array = group.require_array("raw", shape=image.shape, chunks=(3, 6, 5), dtype="u1")
    array[...] = image
    with zipfile.ZipFile(folder / "new.zip", "w") as file:
        for path in sorted(p for p in (folder / "a.zarr").rglob("*") if p.is_file()):
            file.write(path, path.relative_to(folder).as_posix())
    (folder / "new.zip").replace(folder / "b.zip")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Of :func:`write_site`."""
    write_site(tmp_path / "site", IMAGE)
    return tmp_path / "site"


def check_numbers(output: Path) -> None:
    (case,) = load_fingerprint(output).cases
    statistics, wanted = case.channels[0].nonzero, IMAGE[:, :, :5]
    assert statistics is not None
    assert (statistics.count, statistics.min, statistics.max) == (wanted.size, wanted.min(), wanted.max())
    assert statistics.mean == pytest.approx(wanted.mean(dtype=np.float64), rel=1e-12)


CHAINS = [
    "{}/a.zarr",
    "simplecache::{}/a.zarr",
    "filecache::{}/a.zarr",
    "zip://a.zarr::{}/b.zip",
    "zip://a.zarr::simplecache::{}/b.zip",
    "zip://a.zarr::filecache::{}/b.zip",
    "simplecache::zip://a.zarr::{}/b.zip",
]


@pytest.mark.parametrize("chain", CHAINS)
def test_chains_to_a_server(chain: str, site: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    with serving(site, Ranges) as web:
        assert main([chain.format(web), *KEY, "-o", str(output), "--jobs", "1", "-q"]) == 0
        check_numbers(output)


def test_a_cache_of_local_files(site: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    assert main([f"filecache::file://{site}/a.zarr", *KEY, "-o", str(output), "--jobs", "1", "-q"]) == 0
    check_numbers(output)


def test_processes_read_through_a_cache(site: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    with serving(site, Handler) as web:
        assert main([f"simplecache::{web}/a.zarr", *KEY, "-o", str(output), "--jobs", "2", "-q"]) == 0
        check_numbers(output)


def test_a_server_without_ranges(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.json"
    with serving(site, Handler) as web:
        assert main([f"zip://a.zarr::{web}/b.zip", *KEY, "-o", str(output), "-q"]) == 1
        advice = f"zip://a.zarr::simplecache::{web}/b.zip"
        assert f"let the whole file be fetched first: {advice}" in capsys.readouterr().err
        assert main([advice, *KEY, "-o", str(output), "--jobs", "1", "-q"]) == 0
        check_numbers(output)


@pytest.mark.parametrize("how", ["403", "503", "broken", "short"])
@pytest.mark.parametrize("chain", CHAINS[:3])
def test_what_a_server_fails_to_send_is_no_zeros(
    chain: str,
    how: str,
    site: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The caches take an error of the server for the answer that there is no such chunk."""
    output = tmp_path / "out.json"
    monkeypatch.setattr(Failing, "how", how)
    command = [*KEY, "-o", str(output), "--jobs", "1", "-q"]
    with serving(site, Failing) as web:
        assert main([chain.format(web), *command]) == 1
        err = capsys.readouterr().err
        assert "[access]" in err
        assert "cannot be reached" in err
        assert "Traceback" not in err
        monkeypatch.setattr(Failing, "how", "")
        assert main([chain.format(web), *command]) == 0
        check_numbers(output)


class Listing(Ranges):
    """With a page of what lies in each folder, which says neither sizes nor dates."""

    def list_directory(self, path: object) -> Any:  # type: ignore[override]
        return http.server.SimpleHTTPRequestHandler.list_directory(self, str(path))


@pytest.mark.parametrize("handler", [Ranges, Listing])
@pytest.mark.parametrize(
    "chain", [*CHAINS, "file://{0}", "simplecache::file://{0}", "zip://a.zarr::file://{1}"]
)
def test_changed_chunks_are_noticed(chain: str, handler: type[Handler], site: Path, tmp_path: Path) -> None:
    """By the next run in the same process too, whose caches and open archives are those of the last."""
    output = tmp_path / "out.json"
    with serving(site, handler) as web:
        address = chain.format(web) if "file:" not in chain else chain.format(site / "a.zarr", site / "b.zip")
        command = [address, *KEY, "-o", str(output), "--jobs", "1", "-q"]
        keys = []
        for value in (None, 3, 5, 7):
            if value is not None:
                write_site(site, np.full_like(IMAGE, value))
            assert main(command) == 0
            (case,) = load_fingerprint(output).cases
            assert case.channels[0].nonzero is not None
            assert case.channels[0].nonzero.min == (value or IMAGE[:, :, :5].min())
            assert case.channels[0].nonzero.max == (value or IMAGE[:, :, :5].max())
            keys.append(case.content_key)
        if not address.startswith("file:"):  # there the key covers the top of the folder alone
            told = "zip:" in address or "file:" in address
            assert len(set(keys)) == (4 if told else 1)
            assert ("" in keys) == (not told)
