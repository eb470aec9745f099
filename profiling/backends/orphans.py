"""Worker processes that end with the program that started them, however that ends.

What is killed (``kill -9``, a machine short of memory) cannot end its workers: loky's would go on with what
they have, and then wait five minutes for more, with all that they hold in memory and in /dev/shm.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

POLL_SECONDS: Final = 0.5


def end_with(parent: int) -> None:
    """End this process, whatever it does, when the process ``parent``, which started it, is gone."""
    thread = threading.Thread(target=_watch, args=(parent, os.getppid()), name="parent watch", daemon=True)
    thread.start()


def _watch(parent: int, adopted_by: int) -> None:
    while os.getppid() == adopted_by and _is_alive(parent):
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
