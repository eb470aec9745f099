"""Tables that sort, search and turn pages; what the page shows first stands in it without any script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PAGE_ROWS = 50
"""Rows that are shown at once, where a table does not say otherwise."""
MOST_ROWS = 10_000
"""Rows that a report holds; 100 bytes each leave room for pictures within 5 MB."""
MOST_NAME_LETTERS = 24
"""Of a row's name on one line; longer ones are broken, so that the other columns keep their room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell; sorted by ``sort`` where that is given, else by its text."""

    text: str
    sort: float | None = None
    link: str | None = None
    """``#id`` of something in the same page."""

    def packed(self) -> str | list[object]:
        """As the page's script reads it."""
        if self.link is not None:
            return [self.text, self.sort, self.link]
        return self.text if self.sort is None else [self.text, self.sort]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column."""

    name: str
    numeric: bool = False
    long: bool = False
    """Whether it holds sentences, or paths, and gets the room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose first column names the row."""

    key: str
    """HTML id, unique in the page."""
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell]]
    searchable: bool = False
    """Whether the page's search box filters it."""
    total: int = -1
    """Rows there are, where the report holds fewer; else left alone."""
    page: int = PAGE_ROWS
    """Rows that are shown at once."""

    @property
    def prose(self) -> bool:
        """Whether named rows hold sentences: on a narrow screen their cells then stand below each other."""
        return not self.columns[0].numeric and any(column.long for column in self.columns)

    @property
    def name_letters(self) -> int:
        """Letters of a row's name that stay on one line where there is room."""
        if self.columns[0].numeric:
            return 0
        return min(MOST_NAME_LETTERS, max((len(row[0].text) for row in self.rows), default=0))

    @property
    def shown(self) -> Sequence[Sequence[Cell]]:
        """Rows of the first page."""
        return self.rows[: self.page]

    @property
    def further(self) -> list[list[str | list[object]]]:
        """Rows of the other pages, for the page's script."""
        return [[cell.packed() for cell in row] for row in self.rows[self.page :]]

    @property
    def left_out(self) -> int:
        """Rows that the report does not hold."""
        return max(0, self.total - len(self.rows))


def words(text: str) -> Cell:
    """A cell of text."""
    return Cell(text=text)


def amount(value: float, text: str | None = None) -> Cell:
    """A cell that sorts by a number."""
    return Cell(text=f"{value:,}" if text is None else text, sort=value)


def columns(*names: str) -> tuple[Column, ...]:
    """Columns by name; ``#`` before it marks numbers, ``~`` sentences."""
    return tuple(
        Column(name=name.lstrip("#~"), numeric=name.startswith("#"), long=name.startswith("~"))
        for name in names
    )
