"""SimpleITK in a process of its own, for encodings that only it reads.

Its parsers of NRRD and MetaImage headers crash on some that are damaged (found by mutation: ``NDims`` of
2147483648 with ``BinaryData = False`` ends the process), and a crash must cost one case, not the run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .base import FormatError

SECONDS: Final = 600
"""Longest that SimpleITK may take for one file."""
_PROGRAM: Final = """
import sys
import numpy as np
import SimpleITK as sitk
sitk.ProcessObject.SetGlobalWarningDisplay(False)
sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
np.save(sys.argv[2], sitk.GetArrayFromImage(sitk.ReadImage(sys.argv[1])), allow_pickle=False)
"""


def read_apart(path: Path) -> NDArray[Any]:
    """The voxels of an image, in SimpleITK's order of axes.

    The process inherits the memory ceiling of this one (:mod:`..memory_guard`).

    Raises:
        FormatError: SimpleITK refuses the file, crashes on it, or does not come to an end.
    """
    with tempfile.TemporaryDirectory(prefix="voxplan-itk-") as folder:
        result = Path(folder) / "voxels.npy"
        command = [sys.executable, "-I", "-c", _PROGRAM, str(path.absolute()), str(result)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            msg = f"{path}: SimpleITK has not read it in {SECONDS} s; convert it, for example to NIfTI"
            raise FormatError(msg) from error
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines and done.returncode > 0 else f"it crashed, exit {done.returncode}"
            msg = f"{path}: SimpleITK cannot read it ({reason}); the file is damaged or unknown"
            raise FormatError(msg)
        array: NDArray[Any] = np.load(result, allow_pickle=False)
        return array
