"""How the tiers ended: a line as each ends, then all failures, the table of times, and the sums."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """How one tier ended: numbers of tests, what to say beside them, and what to show of the failures."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """One word for all of it."""
        return "failed" if self.failed else "ok" if self.passed else "skipped"

    def add(self, other: Outcome) -> None:
        """Counts another part of the same tier."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.notes += other.notes
        self.failures += other.failures


@dataclass
class Result:
    """A tier that has ended."""

    name: str
    outcome: Outcome
    seconds: float


def skip(why: str) -> Outcome:
    """What cannot run: skipped on a developer's machine, failed where everything must run."""
    if os.environ.get("CI") == "true":
        return Outcome(failed=1, failures=[f"cannot run: {why}"])
    return Outcome(skipped=1, notes=[why])


def timed(name: str, work: Callable[[], Outcome]) -> Result:
    """Runs one tier and says how it went."""
    say(f"{name} …")
    start = time.monotonic()
    outcome = work()
    result = Result(name, outcome, time.monotonic() - start)
    say(row(result))
    return result


def say(line: str) -> None:
    """Prints a line in one piece: tiers may run beside each other."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def row(result: Result) -> str:
    """A tier's line in the table."""
    outcome = result.outcome
    counts = f"{outcome.passed:5} passed {outcome.failed:4} failed"
    counts += f" {outcome.skipped:3} skipped" if outcome.skipped else ""
    notes = f"  ({outcome.notes[0].splitlines()[0][:80]})" if outcome.notes else ""
    return f"{result.name:12} {outcome.state:8} {result.seconds:7.1f} s {counts}{notes}"


def close(results: list[Result], seconds: float) -> int:
    """Prints what is to be known at the end, after so long; returns the exit code."""
    total = Outcome()
    for result in results:
        outcome = result.outcome
        total.add(outcome)
        for part, texts in [("failed", outcome.failures), ("note", outcome.notes)]:
            for text in texts:
                print(f"\n──── {result.name}: {part} ────\n{text.rstrip()}")
    print(f"\n{'tier':12} {'state':8} {'time':>9}")
    for result in results:
        print(row(result))
    print(f"{'all':12} {total.state:8} {seconds:7.1f} s, some of them beside others")
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"\n{total.passed} passed, {total.failed} failed{skipped}")
    return 1 if total.failed else 0
