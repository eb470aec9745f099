"""YAML without anchors: every list is written out where it stands, for people and for other programs."""

from __future__ import annotations

from typing import Any

import yaml


class PlainDumper(yaml.SafeDumper):
    """For ``yaml.dump(..., Dumper=PlainDumper)``."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never ``&id001`` and ``*id001``."""
        return True
