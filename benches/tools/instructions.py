"""Counts the instructions that a request costs outside the kernel, and a message of a websocket: figures that a busy
machine does not change.

The gateway runs under callgrind with one worker; the difference of a long and a short run leaves out what each of them
costs once.
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
# What is counted: the name of its figure, what it is called, and what the client is asked for, on eight connections.
KINDS = [("per_request", "instructions per request", {"path": f"{PATH}/128"}),
         ("ws_64", "instructions per message there and back", {"path": f"{PATH}/ws", "kind": "ws"})]
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


def count(gateway: Path, load: Path, keep: Path) -> dict[str, int]:
    """Instructions of a request of 128 bytes on a connection that stays open, and of 64 bytes back and forth."""
    if shutil.which("valgrind") is None:
        install.apt("valgrind")
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder, contextlib.ExitStack() as stack:
        bench = Counted(Path(folder), gateway, load)
        stack.callback(bench.close)
        proxy = bench.proxy("gateway")
        figures, number = {}, 0
        for name, _, asked in KINDS:
            totals = []
            for requests in [500, SHORT, LONG]:
                number += 1
                client(load, proxy, connections=8, count=requests, **asked)
                totals.append(bench.dump(proxy, number))
            shutil.copy(bench.folder / f"out.{number}", kept(keep, name))
            figures[name] = round((totals[2] - totals[1]) / (LONG - SHORT))
        return figures


def kept(folder: Path, name: str) -> Path:
    """Where the longest run of a kind is kept, by function."""
    return folder / f"callgrind.{name}"


def measured(setting) -> tuple[dict[str, int], Path]:
    keep = setting.target / "bench"
    keep.mkdir(parents=True, exist_ok=True)
    return count(gateway(setting, PROFILE), load(setting), keep), keep


def record(setting) -> int:
    """Counts, and keeps the figures for the runs to come."""
    figures, _ = measured(setting)
    FIGURE.write_text(json.dumps({"profile": PROFILE, **figures}) + "\n")
    for name, words, _ in KINDS:
        print(f"{figures[name]} {words}, kept in {FIGURE.relative_to(ROOT)}")
    return 0


def check(setting) -> Outcome:
    """Compares with the figures that are kept."""
    figures, keep = measured(setting)
    known = json.loads(FIGURE.read_text())
    outcome = Outcome()
    for name, words, _ in KINDS:
        share = figures[name] / known[name] - 1
        said = f"{figures[name]} {words}, {share:+.1%} of the {known[name]} that are kept"
        if share > ALLOWED:
            outcome.failed += 1
            outcome.failures.append(f"{said}; at most {ALLOWED:+.0%}. By function: callgrind_annotate "
                                    f"{kept(keep, name)}\nIf it has to be so: benches/run --record")
            continue
        if share < -ALLOWED:
            said += "; to keep the better one: benches/run --record"
        outcome.passed += 1
        outcome.notes.append(said)
    return outcome
