"""Runs commands: without a terminal, with a time limit, and with their output kept to be shown when they fail."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What runs now, in any thread.
RUNNING: set[subprocess.Popen] = set()
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    output: str

    @property
    def plain(self) -> str:
        """The output without colours, for reading numbers from."""
        return COLOURS.sub("", self.output)


class Unavailable(Exception):
    """Something that a tier needs is not there and could not be installed; says why and how to get it."""


def run(command: list[str | Path], *, minutes: float, cwd: Path = ROOT, env: Mapping[str, str] = os.environ,
        show: bool = False) -> Ended:
    """Runs a command to its end. After its time, or when we are interrupted, its whole process group is killed."""
    process = subprocess.Popen(
        [str(word) for word in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    RUNNING.add(process)
    keep_priority(process.pid)
    late = threading.Event()

    def end() -> None:
        late.set()
        kill(process)

    timer = threading.Timer(minutes * 60, end)
    timer.start()
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if show:
                sys.stdout.write(line)
                sys.stdout.flush()
        code = process.wait()
    except BaseException:
        kill(process)
        raise
    finally:
        timer.cancel()
        RUNNING.discard(process)
    if late.is_set():
        lines.append(f"\nended after its limit of {minutes:g} minutes: {' '.join(map(str, command))}\n")
        code = code or 1
    return Ended(code, "".join(lines))


def kill(process: subprocess.Popen) -> None:
    """Kills a process and its group. The group is the one `run` made, so nobody else's process is in it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def kill_all() -> None:
    """Kills whatever `run` has started and not seen the end of."""
    for process in list(RUNNING):
        kill(process)


def keep_priority(session: int) -> None:
    """Gives a new session the priority of this thread: where Linux groups processes by their sessions, the priorities
    of processes are compared within a session alone."""
    with contextlib.suppress(OSError):
        priority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        if priority:
            Path(f"/proc/{session}/autogroup").write_text(str(priority))


def install(command: list[str | Path], *, cwd: Path = ROOT, minutes: float = 10, **env: str) -> None:
    """Runs one step of an installation, quietly.

    Raises `Unavailable` with the step's output if it fails.
    """
    ended = run(command, minutes=minutes, cwd=cwd, env={**os.environ, **env})
    if ended.code != 0:
        words = " ".join(map(str, command))
        raise Unavailable(f"this step failed ({ended.code}): {words}\n{ended.output.rstrip()}")
