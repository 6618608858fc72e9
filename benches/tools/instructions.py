"""Counts the instructions that a request costs outside the kernel: the figure that a busy machine does not change.

The gateway runs under callgrind with one worker; the difference of a long and a short run of requests leaves out what
each of them costs once.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import install
from proxies import PATH, Bench, Proxy, client
from report import Outcome
from shell import ROOT

FIGURE = ROOT / "benches/instructions.json"
SHORT, LONG = 2000, 6000
# More than this share is a regression. Repeated counts differ by less than a hundredth.
ALLOWED = 0.05
# Not `dist`, whose link alone takes minutes: it is counted in every run of the checks.
PROFILE = "release"


def built(setting, where: Path, *words: str) -> None:
    ended = setting.cargo("build", "--locked", *words, CARGO_TARGET_DIR=str(where))
    if ended.code != 0:
        raise SystemExit(ended.output)


def load(setting) -> Path:
    """The backend and client, built."""
    where = setting.target / "load"
    built(setting, where, "--release", "--manifest-path", str(ROOT / "benches/load/Cargo.toml"))
    return where / "release/load"


def gateway(setting, profile: str) -> Path:
    """The gateway, built."""
    built(setting, setting.target, "--profile", profile, "--bin", "session-gateway")
    return setting.target / profile / "session-gateway"


def lookup(setting) -> Path:
    """The program of the lookups, built. A bench has no name of its own but in what cargo says."""
    words = ["--locked", "--no-run", "--bench", "lookup", "--message-format", "json"]
    ended = setting.cargo("bench", *words, CARGO_TARGET_DIR=str(setting.target))
    said = [json.loads(line) for line in ended.output.splitlines() if line.startswith("{")]
    found = [one["executable"] for one in said if one.get("executable") and one["target"]["name"] == "lookup"]
    if ended.code != 0 or not found:
        raise SystemExit(ended.output)
    return Path(found[0])


class Counted(Bench):
    """A bench whose gateway runs under callgrind."""

    def __init__(self, folder: Path, gateway: Path, load: Path) -> None:
        super().__init__(folder, folder / "gateway", load, ROOT)
        self.gateway.write_text(f"""#!/bin/sh
exec valgrind --tool=callgrind --callgrind-out-file={folder}/out {gateway} "$@"
""")
        self.gateway.chmod(0o755)

    def dump(self, proxy: Proxy, number: int) -> int:
        """What was counted since the last time."""
        out = self.folder / f"out.{number}"
        ended = subprocess.run(["callgrind_control", "--dump", str(proxy.process.pid)], capture_output=True, text=True,
                               timeout=60)
        end = time.monotonic() + 30
        while not (out.exists() and (found := re.search(r"^totals: (\d+)", out.read_text(), re.MULTILINE))):
            if time.monotonic() > end:
                raise SystemExit(f"callgrind wrote nothing: {ended.stdout} {ended.stderr}")
            time.sleep(0.05)
        return int(found[1])


def count(gateway: Path, load: Path, keep: Path | None = None) -> float:
    """Instructions of a request of 128 bytes on a connection that stays open."""
    if shutil.which("valgrind") is None:
        install.apt("valgrind")
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder, contextlib.ExitStack() as stack:
        bench = Counted(Path(folder), gateway, load)
        stack.callback(bench.close)
        proxy = bench.proxy("gateway")
        totals = []
        for number, requests in enumerate([500, SHORT, LONG], 1):
            client(load, proxy, path=f"{PATH}/128", connections=8, count=requests)
            totals.append(bench.dump(proxy, number))
        if keep:
            shutil.copy(bench.folder / "out.3", keep)
        return (totals[2] - totals[1]) / (LONG - SHORT)


def measured(setting) -> tuple[float, Path]:
    keep = setting.target / "bench/callgrind.out"
    keep.parent.mkdir(parents=True, exist_ok=True)
    return count(gateway(setting, PROFILE), load(setting), keep), keep


def record(setting) -> int:
    """Counts, and keeps the figure for the runs to come."""
    figure, _ = measured(setting)
    FIGURE.write_text(json.dumps({"profile": PROFILE, "per_request": round(figure)}) + "\n")
    print(f"{figure:.0f} instructions per request, kept in {FIGURE.relative_to(ROOT)}")
    return 0


def check(setting) -> Outcome:
    """Compares with the figure that is kept."""
    figure, keep = measured(setting)
    kept = json.loads(FIGURE.read_text())["per_request"]
    share = figure / kept - 1
    said = f"{figure:.0f} instructions per request, {share:+.1%} of the {kept} that are kept"
    if share > ALLOWED:
        return Outcome(failed=1, failures=[f"{said}; at most {ALLOWED:+.0%}. By function: callgrind_annotate {keep}\n"
                                           "If it has to be so: benches/run --record"])
    if share < -ALLOWED:
        said += "; to keep the better one: benches/run --record"
    return Outcome(passed=1, notes=[said])
