"""What is kept between runs: tools and compiled dependencies, in the user's cache folder.

Everything is named by the hash of what it is made from, so that a changed lock file makes a new one beside the old;
of each kind the two used last are kept. A thing is made in a temporary folder and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

KEPT = 2


def folder(kind: str) -> Path:
    """The folder of one kind of thing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "session-gateway" / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*parts: Path | str) -> str:
    """A name made from the content of files and from words."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(len(content).to_bytes(8) + content)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def lock(kind: str) -> Iterator[None]:
    """Holds the kind for this run alone. A run that ends in any way lets go of it."""
    with (folder(kind) / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another run uses {folder(kind)}: waiting for its end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def keep(kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """The thing of this name, made by `make` in the folder it is given if it is not there."""
    with lock(kind):
        home = folder(kind)
        path = home / name
        if not path.exists():
            # Of a run that was killed while it made something.
            for left in home.glob("new-*"):
                shutil.rmtree(left)
            new = Path(tempfile.mkdtemp(prefix="new-", dir=home))
            try:
                make(new)
                new.rename(path)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
        used(path)
    return path


def used(path: Path) -> None:
    """Marks a thing as used now and removes all but the newest of its kind."""
    os.utime(path)
    things = [other for other in path.parent.iterdir() if other.is_dir()]
    for old in sorted(things, key=lambda other: other.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old)
