"""What a siege has found, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.siege.explained import end_of
from tests.siege.violations import Evidence, Finding, Violation

_MOST_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The findings of a siege, and how much was done."""

    settings_line: str
    """How large it was, with its seed."""
    seconds: float
    cpu_seconds: float
    """CPU time of callers and server together."""
    evidence: Evidence
    refusals: Mapping[str, int]
    """Calls that had to be repeated, by code and reason."""
    findings: Sequence[Finding]
    stuck: Sequence[str]
    """What never came to an end."""
    left_out: str
    """Why the disk was not filled; empty if it was."""

    @property
    def passed(self) -> bool:
        """Whether there is no violation."""
        return not self.findings and not self.stuck

    def lines(self) -> Iterator[str]:
        """The report, line by line."""
        evidence = self.evidence
        yield f"siege: {self.settings_line}, {self.seconds:.0f} s, CPU {self.cpu_seconds:.0f} s"
        yield f"  done to the server: {_count(one.kind for one in evidence.disturbances)}"
        yield f"  asked: {_count(one.planned.kind.value for one in evidence.asked.values())}"
        ends = (" ".join(end_of(one.generation)).strip() for one in evidence.stored.values())
        yield f"  ended: {_count(ends)}"
        events = sum(len(stream.events) for stream in evidence.streams)
        yield f"  watched: {len(evidence.streams)} streams, {events} events"
        yield f"  ordered: {sum(one.accepted for one in evidence.orders.values())} images at the remote service"
        yield f"  repeated calls: {_counts(self.refusals)}"
        if self.left_out:
            yield f"  SKIPPED the full disk: {self.left_out}"
        for text in self.stuck:
            yield f"  stuck: {text}"
        yield from self._list_findings()

    def _list_findings(self) -> Iterator[str]:
        found = Counter(finding.violation for finding in self.findings)
        yield "  " + ", ".join(f"{violation.value} {found[violation]}" for violation in Violation)
        for violation in Violation:
            yield from self._list_kind([one for one in self.findings if one.violation is violation])

    def _list_kind(self, findings: Sequence[Finding]) -> Iterator[str]:
        """Findings of one kind, each text once with its number, so that a frequent one hides no other."""
        texts = Counter(finding.text for finding in findings)
        subjects = {finding.text: finding.subject for finding in reversed(findings)}
        for text, count in list(texts.items())[:_MOST_LINES]:
            yield f"    {findings[0].violation.value}: {count} times, first {subjects[text]}: {text}"
        if len(texts) > _MOST_LINES:
            yield f"    and {len(texts) - _MOST_LINES} more of this kind"


def _count(names: Iterator[str]) -> str:
    return _counts(Counter(names))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
