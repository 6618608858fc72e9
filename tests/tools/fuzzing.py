"""Fuzzing: libFuzzer looks for inputs that break what `tests/fuzz` says must hold of all of them.

The compiler is the one of everything else. What a fuzzer needs of it is stable: coverage comes from a pass of LLVM, and
only sanitizers, which code without `unsafe` has less use for, want a nightly one.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import install
from report import Outcome
from shell import ROOT, run

CRATE = ROOT / "tests/fuzz"
TARGETS = ["route", "head", "request", "answer", "frames", "proxy"]
SECONDS, LONG = 5, 600
# What a target tries at the least, for as long as that takes: one that got slow is seen by that.
RUNS = 1000
# As cargo-fuzz has it.
COVERAGE = ["-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=4",
            "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters", "-Cllvm-args=-sanitizer-coverage-pc-table",
            "-Cllvm-args=-sanitizer-coverage-trace-compares"]


def fuzz(setting) -> Outcome:
    """Runs all targets, as many at a time as there are cores."""
    if shutil.which("g++") is None:
        install.apt("g++")
    where = setting.target / "fuzz"
    version = run(["rustc", "-vV"], minutes=1).output
    host = re.search(r"^host: (\S+)", version, re.MULTILINE)[1]
    # With a target that is named, build scripts and macros are compiled without the flags.
    ended = setting.cargo("build", "--locked", "--manifest-path", str(CRATE / "Cargo.toml"), "--bins", "--target", host,
                          CARGO_TARGET_DIR=str(where), RUSTFLAGS=" ".join(["--cfg fuzzing", *COVERAGE]))
    if ended.code != 0:
        return Outcome(failed=1, failures=[f"building the targets ({ended.code})\n{ended.output}"])
    outcome = Outcome()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for one in pool.map(lambda name: target(setting, where, where / host / "debug" / name), TARGETS):
            outcome.add(one)
    outcome.notes = ["\n".join(outcome.notes)] if outcome.notes else []
    return outcome


def target(setting, where: Path, program: Path) -> Outcome:
    """Runs one target. What is found goes to a folder that is thrown away: the corpus is kept by hand, and small."""
    found = where / "artifacts"
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        def tries(limit: str):
            """How it ended, and how many inputs it tried."""
            ended = setting.run(program, folder, CRATE / "corpus" / program.name, limit, "-timeout=10", "-max_len=2048",
                                "-print_final_stats=1", f"-artifact_prefix={found}/{program.name}-",
                                minutes=seconds / 60 + 2)
            runs = re.search(r"^stat::number_of_executed_units: *(\d+)", ended.plain, re.MULTILINE)
            return ended, int(runs[1]) if runs else 0

        seconds = LONG if setting.long else SECONDS
        ended, runs = tries(f"-max_total_time={seconds}")
        if ended.code == 0 and runs < RUNS:
            ended, runs = tries(f"-runs={RUNS}")
    # Without counters it would try inputs blindly, and never fail.
    counters = re.search(r"\((\d+) inline 8-bit counters\)", ended.plain)
    if ended.code != 0 or not counters or runs < RUNS:
        again = "To see it again, run the program with the file that it wrote; once mended, add that to the corpus."
        return Outcome(failed=1, failures=[f"{program} ({ended.code})\n{ended.output}\n{again}"])
    covered = max(map(int, re.findall(r" cov: (\d+)", ended.plain)), default=0)
    return Outcome(passed=1, notes=[f"{program.name:8}{runs:>12,} runs, {covered:,} places reached"])
