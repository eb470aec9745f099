"""One self-contained page from a template: everything escaped, nothing loaded, no script but our own.

The page carries a Content-Security-Policy that names its one script by hash and allows images only as data:
what a file name or a warning smuggles in is shown as text, and would not run if it were not.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...files import write_atomically

HERE = "voxplan.profiling.report.html"
FOLDER = "templates"


def render_page(template: str, content: Mapping[str, Any], *, package: str = HERE) -> str:
    """The page's text.

    Args:
        template: file name in the ``templates`` folder of ``package`` or of this one.
        content: what the template shows; every string is escaped.
        package: where the template stands; its parts may come from here.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def load(name: str) -> str | None:
        for place in dict.fromkeys((package, HERE)):
            found = files(place).joinpath(FOLDER, name)
            if found.is_file():
                return found.read_text(encoding="utf-8")
        return None

    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = (_asset(name) for name in ("report.js", "report.css"))
    return environment.get_template(template).render(
        **content,
        script=Markup(script),
        style=Markup(style),
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def write_page(text: str, path: Path) -> None:
    """Write the page under a temporary name and rename it.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


@cache
def _asset(name: str) -> str:
    return files(HERE).joinpath(FOLDER, name).read_text(encoding="utf-8")
