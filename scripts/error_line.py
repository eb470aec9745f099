"""What an exception says, as one line for people."""

from __future__ import annotations

import errno
import re

REMEDIES = {
    errno.ENOSPC: "free some room there, or name a file on another disk",
    errno.EDQUOT: "your quota is used up there; free some room, or name a file on another disk",
    errno.EROFS: "name a file on a disk that can be written to",
    errno.EACCES: "you may not do that there; change the permissions, or name another file",
}
"""What to do about an error of the operating system, which only says what and where."""


def error_line(error: Exception) -> str:
    """The message on one line, without the system's numbers, and with what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, OSError):
        return text
    remedy = REMEDIES.get(error.errno or 0)
    text = re.sub(r"^\[Errno \d+\] ", "", text)
    return text if remedy is None or error.filename is None else f"{text}; {remedy}"
