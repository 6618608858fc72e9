"""A cluster for the tests of one run, which ends with it, and what its gateways may do there."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from report import Outcome
from shell import ROOT, Unavailable

# It takes four seconds.
DEADLINE = 60
# The release of the gateway's chart whose account all gateways of the tests have.
RELEASE = "session-gateway"
NAMESPACE = "default"
CHART = ROOT / "deploy/charts/session-gateway"
# What the tests use of it: a quota, and a Secret named `keys`.
VALUES = ["auth.none_is_fine=true", "config.image.repository=dev-session", "config.quota.pods=1",
          "config.envSecrets={keys}"]


@dataclass
class Cluster:
    """A cluster that runs."""

    program: Path
    # What it said of itself, and the token of the gateways' account.
    said: dict[str, str | int]

    def inside(self) -> list[str]:
        """What goes before a command that is to reach the cluster: a real node has a network of its own."""
        pid = self.said.get("pid")
        return ["nsenter", "--target", str(pid), "--net"] if pid else []

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """Runs kubectl as an administrator."""
        command = [*self.inside(), self.program, "kubectl", f"--kubeconfig={self.said['kubeconfig']}", *words]
        ended = subprocess.run(command, input=given, capture_output=True, text=True)
        if ended.returncode != 0:
            raise Unavailable(f"kubectl {' '.join(words)}: {ended.stderr.strip()}")
        return ended.stdout

    def permit(self, helm: Path) -> None:
        """Gives the gateways the account and the permissions of the chart, and no more."""
        shown = [word for name in ["rbac", "serviceaccount"] for word in ["--show-only", f"templates/{name}.yaml"]]
        sets = [word for value in VALUES for word in ["--set", value]]
        made = subprocess.run([helm, "template", RELEASE, CHART, "--namespace", NAMESPACE, *shown, *sets,
                               "--kube-version", "1.36"], capture_output=True, text=True)
        if made.returncode != 0:
            raise Unavailable(f"helm template: {made.stderr.strip()}")
        self.kubectl("apply", "--filename=-", given=made.stdout)
        self.said["token"] = self.kubectl("create", "token", RELEASE, f"--namespace={NAMESPACE}").strip()

    def audit(self) -> Outcome:
        """Holds what the gateways did against what they may do."""
        user = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
        refused, used = set(), set()
        for line in Path(self.said["audit"]).read_text().splitlines():
            entry = json.loads(line)
            if entry["user"]["username"] != user or "objectRef" not in entry:
                continue
            what = entry["objectRef"]
            resource = "/".join(filter(None, [what["resource"], what.get("subresource")]))
            did = (what.get("apiGroup", ""), resource, entry["verb"])
            forbidden = entry.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
            (refused if forbidden else used).add(did)
            # Applying what was not there is creating it, too.
            if entry["verb"] == "patch" and entry.get("responseStatus", {}).get("code") == 201:
                used.add((*did[:2], "create"))
        granted = set()
        for kind in ["clusterroles", "roles"]:
            roles = json.loads(self.kubectl("get", kind, f"--namespace={NAMESPACE}", "--output=json",
                                            f"--selector=app.kubernetes.io/instance={RELEASE}"))
            for rule in (rule for role in roles["items"] for rule in role["rules"]):
                granted |= {(group, resource, verb) for group in rule["apiGroups"] for resource in rule["resources"]
                            for verb in rule["verbs"]}
        outcome = Outcome()
        # An API server that has just been started again knows no roles yet, and refuses what it grants a moment later.
        for wrong, what in [(refused - granted, "used and not granted"), (granted - used, "granted and never used")]:
            if wrong:
                lines = "\n".join(" ".join(filter(None, one)) for one in sorted(wrong))
                outcome.add(Outcome(failed=1, failures=[f"permissions {what}:\n{lines}"]))
            else:
                outcome.add(Outcome(passed=1))
        return outcome


@contextlib.contextmanager
def up(programs: Path, helm: Path, real: bool = False, images: Sequence[Path] = ()) -> Iterator[Cluster]:
    """Starts a cluster, with a node where pods only seem to run or with a real one. It ends when its standard input is
    closed, which it is too when this process is killed."""
    program = programs / "cluster"
    with tempfile.TemporaryDirectory(prefix="cluster-") as folder:
        command = [program, "up", "--home", f"{folder}/home"]
        if real:
            images = [*images, *(programs / f"{image}.tar" for image in ["pause", "dev-session"])]
            command += ["--node", "real", *(word for image in images for word in ["--image", image])]
        # Memory in place of CPU, which is what the tests wait for.
        running = subprocess.Popen(command, env={"GOGC": "400", **os.environ}, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            ready, _, _ = select.select([running.stdout], [], [], DEADLINE)
            said = running.stdout.readline() if ready else ""
            if not said:
                running.kill()
                raise Unavailable(f"the cluster did not start: {running.stderr.read().strip()}")
            cluster = Cluster(program, json.loads(said))
            cluster.permit(helm)
            yield cluster
        finally:
            running.stdin.close()
            running.wait()
