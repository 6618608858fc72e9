"""The image of the Dockerfile, built without a registry and without a container engine.

The Dockerfile's base image is made here under its own name: a Debian root with a C compiler and make, and the Rust
toolchain of this machine mounted into it. Crates that were downloaded already are mounted too, so nothing is fetched.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import cache
from install import apt
from shell import ROOT, Unavailable, install, run

BASE = "docker.io/library/rust:1.95-bookworm"
NAME = "session-gateway:test"
TOOLS = ["buildah", "mmdebstrap"]
# Where the toolchain is in the official image.
HOMES = {"RUSTUP_HOME": "/usr/local/rustup", "CARGO_HOME": "/usr/local/cargo"}


def gateway() -> Path:
    """The archive of the image, to be imported by a node."""
    if os.geteuid() != 0:
        raise Unavailable("building the image needs root")
    apt_missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if apt_missing:
        apt(*apt_missing)
    sources = sorted(path for path in (ROOT / "src").rglob("*") if path.is_file())
    parts = [ROOT / name for name in ["Dockerfile", ".dockerignore", "Cargo.toml", "Cargo.lock", ".askama.toml",
                                    ".cargo/config.toml"]]
    return cache.keep("image", cache.key(*parts, *sources), build) / "gateway.tar"


def debian(new: Path) -> None:
    """A Debian root with what compiling Rust needs besides Rust."""
    install(["mmdebstrap", "--variant=minbase", "--include=gcc,libc6-dev,make,ca-certificates", "bookworm",
             new / "base.tar"], minutes=20)


def build(new: Path) -> None:
    """Builds the image and writes its archive."""
    base = cache.keep("image-base", cache.key("bookworm gcc libc6-dev make ca-certificates"), debian) / "base.tar"
    toolchain = Path(run(["rustc", "--print", "sysroot"], minutes=1).output.strip())
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        env = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs", "TMPDIR": folder}
        storage = ["--root", f"{folder}/root", "--runroot", f"{folder}/run"]

        def buildah(*words: str | Path, minutes: float = 10) -> str:
            ended = run(["buildah", *storage, *words], minutes=minutes, env={**os.environ, **env})
            if ended.code != 0:
                raise Unavailable(f"buildah {words[0]}: {ended.output[-3000:]}")
            return ended.output.strip().splitlines()[-1] if ended.output.strip() else ""

        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, base, "/")
        path = "/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = {**HOMES, "PATH": path}
        words = [word for name, value in variables.items() for word in ["--env", f"{name}={value}"]]
        buildah("config", *words, container)
        buildah("commit", "--quiet", container, BASE)
        buildah("rm", container)
        volumes = {toolchain: "/usr/local/rust:ro", home / "registry": "/usr/local/cargo/registry"}
        mounts = [word for ours, theirs in volumes.items() for word in ["--volume", f"{ours}:{theirs}"]]
        buildah("bud", "--pull-never", "--layers=false", "--tag", NAME, *mounts, ROOT, minutes=40)
        buildah("push", NAME, f"docker-archive:{new}/gateway.tar:{NAME}")
