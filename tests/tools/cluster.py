"""A cluster for the tests of one run, which ends with it."""

from __future__ import annotations

import contextlib
import select
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shell import Unavailable

# It takes four seconds.
DEADLINE = 60


@contextlib.contextmanager
def up(program: Path) -> Iterator[str]:
    """Starts a cluster, and gives what it says of itself: a line of JSON. It ends when its standard input is closed,
    which it is too when this process is killed."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as folder:
        running = subprocess.Popen([program, "up", "--home", f"{folder}/home"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            ready, _, _ = select.select([running.stdout], [], [], DEADLINE)
            said = running.stdout.readline() if ready else ""
            if not said:
                running.kill()
                raise Unavailable(f"the cluster did not start: {running.stderr.read().strip()}")
            yield said.strip()
        finally:
            running.stdin.close()
            running.wait()
