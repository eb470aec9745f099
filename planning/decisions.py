"""Why each value of a plan is what it is, collected while the plan is made."""

from __future__ import annotations

from voxplan.plans.schema import DecidedBy, Decision


class Decisions:
    """Decisions by field name; what the user set stays the user's."""

    def __init__(self) -> None:
        self._by_field: dict[str, Decision] = {}

    def add(self, field: str, by: DecidedBy, why: str) -> None:
        """Record a decision, unless the user has made it."""
        self.put(field, Decision(by=by, why=why))

    def put(self, field: str, decision: Decision) -> None:
        """Record a decision that a rule has worded."""
        present = self._by_field.get(field)
        if present is None or present.by != "user":
            self._by_field[field] = decision

    def user(self, field: str, value: object) -> None:
        """Record that the user set a field."""
        shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        self._by_field[field] = Decision(by="user", why=f"set to {shown} by the user")

    def as_dict(self) -> dict[str, Decision]:
        """All of them, in the order in which they were made."""
        return dict(self._by_field)
