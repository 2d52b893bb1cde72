"""The result of `diagnose`: findings with the evidence for them, and the checks that did not
apply."""

import enum
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

WIDTH = 99


class Severity(enum.StrEnum):
    """How much a finding matters."""

    NOTE = "note"
    """Worth knowing, and often meant."""
    WARNING = "warning"
    """The fit is worse than it could be."""
    ERROR = "error"
    """What the fit says cannot be relied on."""


@dataclass(frozen=True)
class Finding:
    """One fault of a fit."""

    name: str
    """In the field's terms, e.g. "posterior collapse"."""
    severity: Severity
    evidence: str
    """The numbers seen, with what a healthy fit has."""
    remedy: str
    """The change that helps."""

    def __str__(self) -> str:
        lines = (
            f"{self.severity}: {self.name}",
            f"  seen: {self.evidence}",
            f"  try: {self.remedy}",
        )
        return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="    ") for line in lines)


@dataclass(frozen=True)
class Diagnosis:
    """Findings about a fitted pair, the most severe first; iterable, true where there is one.

    Example:
        >>> print(Diagnosis([Finding("draws agree", Severity.WARNING, "spread 0", "draw weights")]))
        warning: draws agree
          seen: spread 0
          try: draw weights
    """

    findings: list[Finding]
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Checks that were not made, by name, each with the reason."""

    @property
    def names(self) -> list[str]:
        """The names of the findings."""
        return [finding.name for finding in self.findings]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        parts = [str(finding) for finding in self.findings] or ["no fault found"]
        if self.skipped:
            same: dict[str, list[str]] = {}
            for name, reason in self.skipped.items():
                same.setdefault(reason, []).append(name)
            reasons = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in same.items())
            parts.append(textwrap.fill(f"not checked: {reasons}", WIDTH, subsequent_indent="  "))
        return "\n".join(parts)
