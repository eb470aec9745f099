"""What ``mkdocs build`` does besides: JSON Schemas from the models, links into the repository, Sphinx roles.

A page may link to a file of the repository as one reads it there (``../plans/examples/auto_config.yaml``):
the file is then part of the site, below ``repository/``.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)((?:#[^)\s]*)?\))")
ROLE = re.compile(r":(class|meth|func|data|mod|attr|exc):<code>(~?)([^<]*)</code>")
SCHEMAS = ("fingerprint", "plans")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out what the navigation names and nobody has written yet."""
    config.nav = _existing(config.nav, Path(config.docs_dir))
    return config


def _existing(entry: Any, folder: Path) -> Any:
    if isinstance(entry, list):
        return [kept for one in entry if (kept := _existing(one, folder))]
    if isinstance(entry, dict):
        return {name: kept for name, inner in entry.items() if (kept := _existing(inner, folder))}
    return entry if (folder / entry).is_file() else None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the schemas, and the files of the repository that pages link to."""
    for name in SCHEMAS:
        text = json.dumps(_schema(name), indent=2) + "\n"
        files.append(File.generated(config, f"reference/{name}.schema.json", content=text))
    wanted: set[str] = set()
    for file in files.documentation_pages():
        wanted |= {target for _, target in _links(file.content_string, f"docs/{file.src_uri}")}
    for target in sorted(wanted):
        uri = f"repository/{target}"
        content = (ROOT / target).read_text(encoding="utf-8")
        if target.endswith(".md"):
            content = _rewritten(content, target, uri)
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ to the copies."""
    uri: str = page.file.src_uri
    return markdown if uri.startswith("repository/") else _rewritten(markdown, f"docs/{uri}", uri)


def on_page_content(html: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Show what docstrings name by a Sphinx role as code; after ``~`` by its last part."""
    return ROLE.sub(
        lambda match: f"<code>{match[3].rpartition('.')[2] if match[2] else match[3]}</code>", html
    )


def _links(markdown: str, here: str) -> list[tuple[str, str]]:
    """Links of a file of the repository that lead to another one outside docs/: as written, and where to."""
    found = []
    for match in LINK.finditer(markdown):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2]))
        if not target.startswith(("docs/", "..")) and (ROOT / target).is_file():
            found.append((match[2], target))
    return found


def _rewritten(markdown: str, here: str, uri: str) -> str:
    targets = dict(_links(markdown, here))

    def replace(match: re.Match[str]) -> str:
        if match[2] not in targets:
            return match[0]
        address = posixpath.relpath(f"repository/{targets[match[2]]}", posixpath.dirname(uri) or ".")
        return f"{match[1]}{address}{match[3]}"

    return LINK.sub(replace, markdown)


def _schema(name: str) -> dict[str, Any]:
    if name == "plans":
        from voxplan.plans.document import json_schema

        return json_schema()
    from voxplan.profiling.fingerprint import Fingerprint

    return Fingerprint.model_json_schema()
