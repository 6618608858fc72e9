"""The tiers: what each one checks, and how."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cache
import cluster
import fuzzing
import image
import install
from report import Outcome, skip
from shell import ROOT, Ended, Unavailable, run

PACKAGE = "session-gateway"
# At a time: a scenario waits for its browser a good part of its time.
BROWSERS = 2
# The same of a test on a cluster, which waits for that.
THREADS = str((os.cpu_count() or 1) + 1)
# A pattern for a number that is not printed.
NEVER = r"(?!)"


@dataclass
class Setting:
    """What all tiers of one run share."""

    long: bool
    show: bool
    target: Path
    env: dict[str, str]
    is_built: bool = False

    def run(self, *command: str | Path, minutes: float = 15, **env: str) -> Ended:
        """Runs a command of a tier."""
        return run(list(command), minutes=minutes, env={**self.env, **env}, show=self.show)

    def cargo(self, *words: str, **env: str) -> Ended:
        """Runs cargo with the lock file as it is. A cold build is most of its time: beside others it gets what they
        leave of the cores, which is nothing for as long as they compile as well."""
        return self.run("cargo", *words, minutes=60, **env)

    def with_tools(self) -> None:
        """Puts cargo's additional commands on the path of what runs from now on."""
        self.env["PATH"] = f"{install.cargo_tools()}:{os.environ['PATH']}"


@dataclass(frozen=True)
class Tier:
    """One row of the table."""

    name: str
    checks: str
    work: Callable[[Setting], Outcome]
    needs_build: bool = False
    # It compiles and counts, and waits for nothing: it may run beside others.
    is_beside: bool = False
    # Nothing runs beside it.
    is_alone: bool = False

    def run(self, setting: Setting) -> Outcome:
        """Does the work, if what it needs is there."""
        if self.needs_build and not setting.is_built:
            return skip("the build did not succeed")
        try:
            return self.work(setting)
        except Unavailable as unavailable:
            return skip(str(unavailable))
        except SystemExit as ended:
            # Of a tool that is a program elsewhere. The other tiers go on.
            return Outcome(failed=1, failures=[str(ended)])


@contextlib.contextmanager
def setting(long: bool, show: bool, colour: bool) -> Iterator[Setting]:
    """Chooses the folder for what cargo compiles, and keeps other runs out of it for as long as this one goes on."""
    env = {**os.environ, "CARGO_TERM_COLOR": "always" if colour else "never"}
    if long:
        env["SESSION_GATEWAY_TEST_LONG"] = "1"
    if chosen := os.environ.get("CARGO_TARGET_DIR"):
        yield Setting(long, show, ROOT / chosen, env)
        return
    version = run(["rustc", "-vV"], minutes=1).output
    target = cache.folder("cargo-target") / cache.key(ROOT / "Cargo.lock", version)
    with cache.lock("cargo-target"):
        target.mkdir(exist_ok=True)
        cache.used(target)
        env["CARGO_TARGET_DIR"] = str(target)
        forget_other_checkout(target, env)
        yield Setting(long, show, target, env)


def forget_other_checkout(target: Path, env: dict[str, str]) -> None:
    """Removes what was compiled from this package in another folder: cargo would never use it again, nor remove it."""
    stamp = target / "checkout"
    if stamp.exists() and stamp.read_text() != str(ROOT):
        run(["cargo", "clean", "--locked", "--package", PACKAGE], minutes=5, env=env)
    stamp.write_text(str(ROOT))


def check(name: str, ended: Ended) -> Outcome:
    """Counts a command that either holds or does not."""
    if ended.code == 0:
        return Outcome(passed=1)
    return Outcome(failed=1, failures=[f"{name} ({ended.code})\n{ended.output}"])


def counted(name: str, ended: Ended, passed: str, failed: str, skipped: str = NEVER,
            none_is_fine: bool = False) -> Outcome:
    """Counts tests by the numbers that their runner printed. Running none is a failure."""
    passes, fails, skips = (sum(map(int, re.findall(pattern, ended.plain, re.MULTILINE)))
                            for pattern in [passed, failed, skipped])
    if ended.code == 0 and fails == 0 and (passes or none_is_fine):
        return Outcome(passed=passes, skipped=skips)
    return Outcome(passes, max(fails, 1), skips, failures=[f"{name} ({ended.code})\n{ended.output}"])


def formatting(run: Setting) -> Outcome:
    return check("cargo fmt", run.cargo("fmt", "--check"))


def build(run: Setting) -> Outcome:
    run.with_tools()
    outcome = check("the build", run.cargo("nextest", "run", "--locked", "--no-run"))
    run.is_built = outcome.failed == 0
    return outcome


def release(run: Setting) -> Outcome:
    """What is counted later as well, when nothing else runs: how often the kernel is called depends on that."""
    return check("cargo build --release", run.cargo("build", "--locked", "--release"))


def lint(run: Setting) -> Outcome:
    return check("cargo clippy", run.cargo("clippy", "--locked", "--all-targets", "--", "-D", "warnings"))


def deny(run: Setting) -> Outcome:
    run.with_tools()
    outcome = Outcome()
    for subject in ["bans", "licenses", "sources"]:
        outcome.add(check(f"cargo deny check {subject}", run.cargo("deny", "--locked", "check", subject)))
    # Everything else of the run needs no more than the package registries; these are kept elsewhere.
    if run.run("cargo", "deny", "fetch", "db", minutes=2).code == 0:
        outcome.add(check("cargo deny check advisories",
                          run.cargo("deny", "--locked", "check", "--disable-fetch", "advisories")))
    else:
        outcome.add(Outcome(skipped=1, notes=["advisories not checked: their database cannot be reached from here"]))
    return outcome


def nextest(run: Setting, which: str, before: Sequence[str] = (), **env: str) -> Outcome:
    """Runs the tests of one kind."""
    run.with_tools()
    profile = "long" if run.long else "default"
    quiet = ["--status-level", "fail", "--failure-output", "final", "--success-output", "final"]
    ended = run.run(*before, "cargo", "nextest", "run", "--locked", "--profile", profile, *quiet, "-E", which,
                    minutes=60 if run.long else 15, **env)
    summary = r"^ *Summary .* {}"
    # Each kind of failure has its own number there.
    outcome = counted("cargo nextest", ended, summary.format(r"(\d+) passed"),
                      r"(\d+) (?:failed|timed out|exec failed)(?=, |$)")
    if measured := re.findall(r"^ *measured: (.*)", ended.plain, re.MULTILINE):
        outcome.notes.append("\n".join(["measured by the tests", *measured]))
    return outcome


def unit(run: Setting) -> Outcome:
    outcome = nextest(run, "kind(lib) | kind(bin)")
    results = r"^test result: .*? {}"
    outcome.add(counted("cargo test --doc", run.cargo("test", "--locked", "--doc"),
                        results.format(r"(\d+) passed"), results.format(r"(\d+) failed"), none_is_fine=True))
    return outcome


def sockets(run: Setting) -> Outcome:
    return nextest(run, "kind(test) - test(/^(rules|kubernetes|node)::/)")


def kubernetes(run: Setting) -> Outcome:
    helm = install.helm()
    with cluster.up(install.cluster(), helm) as running:
        outcome = on_cluster(run, running, helm, "kind(test) & test(/^kubernetes::/)", NEXTEST_TEST_THREADS=THREADS)
        outcome.add(running.audit())
        return outcome


def node(run: Setting) -> Outcome:
    install.containerd()
    helm = install.helm()
    # The slow build: minutes, for each change of a source file.
    images = [image.gateway()] if run.long else []
    which = "kind(test) & test(/^node::/)" + ("" if run.long else " - test(/^node::image::/)")
    with cluster.up(install.cluster(), helm, real=True, images=images) as running:
        outcome = in_browser(run, sorted((ROOT / "tests/browser/node").glob("*.test.mjs")), running.inside(),
                             CLUSTER_KUBECONFIG=running.said["kubeconfig"])
        outcome.add(on_cluster(run, running, helm, which))
        return outcome


def on_cluster(run: Setting, running: cluster.Cluster, helm: Path, which: str, **env: str) -> Outcome:
    """Runs the tests of one kind where they reach the cluster."""
    return nextest(run, which, before=running.inside(), HELM=str(helm),
                   SESSION_GATEWAY_TEST_CLUSTER=json.dumps(running.said), **env)


def rules(run: Setting) -> Outcome:
    return nextest(run, "kind(test) & test(/^rules::/)")


def charts(run: Setting) -> Outcome:
    needs = {
        "HELM": str(install.helm()),
        "HELM_DOCS": str(install.helm_docs()),
        "PYTHONPATH": str(install.yaml()),
    }
    ended = run.run(sys.executable, "-B", ROOT / "tests/charts", **needs)
    return counted("the charts", ended, r"^(\d+) passed$", r"^(\d+) failed$")


def browser(run: Setting) -> Outcome:
    return in_browser(run, sorted((ROOT / "tests/browser").glob("*.test.mjs")))


def in_browser(run: Setting, tests: Sequence[Path], before: Sequence[str] = (), **env: str) -> Outcome:
    """Runs tests in Chromium."""
    node = install.node()
    install.openssl()
    needs = {
        "CHROMIUM": install.chromium(),
        "NODE_PATH": str(install.playwright()),
        "CODE_SERVER": str(install.code_server()),
        "SESSION_GATEWAY": str(run.target / "debug" / PACKAGE),
    }
    ended = run.run(*before, node, "--test", f"--test-concurrency={BROWSERS}", "--test-reporter=spec", *tests, **needs,
                    **env)
    line = r"^ℹ {} (\d+)"
    return counted("node --test", ended, line.format("pass"), line.format("(?:fail|cancelled)"),
                   line.format("(?:skipped|todo)"))


def instructions(run: Setting) -> Outcome:
    sys.path.append(str(ROOT / "benches/tools"))
    # Not above: its folder is not on the path of those who use the other tiers.
    import instructions as counter
    return counter.check(run)


TIERS = [
    Tier("format", "cargo fmt", formatting),
    Tier("lint", "cargo clippy, no warning", lint),
    Tier("release", "the program that the README runs compiles", release, is_beside=True),
    Tier("deny", "cargo deny: bans, licences, sources; advisories where their database can be reached", deny,
         is_beside=True),
    Tier("charts", "the Helm charts: what they make, what they refuse, and their READMEs", charts,
         is_beside=True),
    Tier("build", "everything compiles", build),
    Tier("rules", "which module may name what, and how files are shaped", rules, needs_build=True),
    Tier("unit", "tests of the library and of its documentation", unit, needs_build=True),
    Tier("sockets", "tests of the program over real sockets and processes", sockets, needs_build=True),
    Tier("kubernetes", "sessions on a real API server, with pods that only seem to run", kubernetes, needs_build=True),
    Tier("fuzz", "what reads the bytes of strangers, with inputs that libFuzzer makes up", fuzzing.fuzz,
         is_beside=True),
    Tier("browser", "the whole line in Chromium, with code-server and Vite", browser, needs_build=True),
    # The pods of a node have groups of their own, which get less of a core than any process beside them.
    Tier("node", "sessions on a real node: a kubelet, containerd, disks, Helm", node, needs_build=True, is_alone=True),
    Tier("instructions", "what requests and messages cost outside the kernel, within 5 % of benches/instructions.json",
         instructions, is_alone=True),
]


def chosen(names: list[str]) -> list[Tier]:
    """The tiers of these names and, if one of them needs it, the build, in their order."""
    asked = [tier for tier in TIERS if tier.name in names]
    needs_build = any(tier.needs_build for tier in asked)
    return [tier for tier in TIERS if tier in asked or (needs_build and tier.work is build)]
