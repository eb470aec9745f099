"""One self-contained page from a template: everything escaped, nothing loaded, no script but our own.

What cannot be seen in a name (marks that turn the direction of writing, zero-width and control characters)
is shown as an escape, as on the terminal (:mod:`..console`). The page carries a Content-Security-Policy that
names its one script by hash and allows images only as data: what a file name or a warning smuggles in is
shown as text, and would not run if it were not.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import write_atomically
from ..console import printable_lines

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = "voxplan.profiling.report.html"
FOLDER = "templates"


def render_page(template: str, content: Mapping[str, Any], *, package: str = HERE) -> str:
    """The page's text.

    Args:
        template: file name in the ``templates`` folder of ``package`` or of this one.
        content: what the template shows; every string is escaped.
        package: where the template stands; its parts may come from here.
    """
    from markupsafe import Markup

    script, style = (_asset(name) for name in ("report.js", "report.css"))
    return (
        page_environment(package)
        .get_template(template)
        .render(
            **content,
            script=Markup(script),
            style=Markup(style),
            script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def page_environment(package: str = HERE) -> Environment:
    """The templates, with all that they show escaped and made visible; see :func:`render_page`."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined, pass_eval_context
    from jinja2.filters import do_tojson

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
        finalize=_seen,
    )
    environment.filters["tojson"] = pass_eval_context(lambda context, value: do_tojson(context, _seen(value)))
    return environment


def _seen(value: Any) -> Any:
    """A value of the page, its texts without what cannot be seen; markup of our own stays markup."""
    if isinstance(value, str):
        return type(value)(printable_lines(value))
    if isinstance(value, list | tuple):
        return [_seen(item) for item in value]
    if isinstance(value, dict):
        return {_seen(key): _seen(item) for key, item in value.items()}
    return value


def write_page(text: str, path: Path) -> None:
    """Write the page under a temporary name and rename it.

    Raises:
        OSError: the folder is missing, not writable or full.
    """
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


@cache
def _asset(name: str) -> str:
    return files(HERE).joinpath(FOLDER, name).read_text(encoding="utf-8")
