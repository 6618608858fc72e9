"""What the tests of the charts have in common: Helm's commands, and what it writes as Python values.

`HELM` and `HELM_DOCS` are the programs. No cluster is needed: nothing is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
# A build of Helm that was not told its version takes the cluster's for a very old one.
CLUSTER = ["--kube-version", "1.30.0"]

Object = dict[str, Any]


class Refused(Exception):
    """Helm made nothing; says why."""


def load(text: str) -> list[Any]:
    """All documents, read as Kubernetes reads them: by YAML 1.1, where `on` is true."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    return [document for document in yaml.load_all(text) if document is not None]


@dataclass(frozen=True)
class Chart:
    """A chart, with the settings without which it makes nothing."""

    name: str
    release: str
    namespace: str
    needs: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Its folder."""
        return ROOT / "deploy/charts" / self.name

    def objects(self, *sets: str, values: Object | None = None, **instead: str) -> dict[str, Object]:
        """What is made with these settings on top: by kind and name."""
        found = load(self.template(*self.needs, *sets, values=values, **instead))
        made = {f"{item['kind']} {item['metadata']['name']}": item for item in found}
        assert len(made) == len(found), "two objects have the same name"
        return made

    def refusal(self, *sets: str, values: Object | None = None) -> str:
        """Why nothing is made with these settings alone."""
        try:
            self.template(*sets, values=values)
        except Refused as refused:
            return str(refused)
        raise AssertionError(f"not refused: {sets} {values}")

    def template(self, *sets: str, values: Object | None = None, namespace: str | None = None,
                 chart: Path | None = None) -> str:
        """All that Helm writes."""
        with tempfile.TemporaryDirectory() as folder:
            files = []
            if values is not None:
                Path(folder, "values.json").write_text(json.dumps(values))
                files = ["--values", f"{folder}/values.json"]
            options = [word for pair in sets for word in ("--set", pair)]
            return helm("template", self.release, chart or self.path, *CLUSTER,
                        "--namespace", namespace or self.namespace, *files, *options)

    def notes(self, *sets: str, **instead: str) -> str:
        """What Helm prints after the installation. It has no command for that without a cluster, so a copy of the
        chart has the text in a ConfigMap."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, self.name)
            shutil.copytree(self.path, copy)
            (copy / "templates/NOTES.txt").rename(copy / "notes")
            (copy / "templates/notes.yaml").write_text(
                '{ kind: ConfigMap, metadata: { name: notes }, text: {{ tpl (.Files.Get "notes") . | quote }} }\n')
            made = load(self.template(*self.needs, *sets, chart=copy, **instead))
        return next(item["text"] for item in made if item["metadata"]["name"] == "notes")

    def lint(self, *sets: str) -> str:
        """What Helm thinks of it; strictly."""
        options = [word for pair in (*self.needs, *sets) for word in ("--set", pair)]
        return helm("lint", "--strict", *CLUSTER, "--namespace", self.namespace, *options, self.path)


def helm(*words: str | Path) -> str:
    """Runs Helm."""
    return program("HELM", *words)


def program(variable: str, *words: str | Path) -> str:
    """Runs the program whose path is in a variable of the environment; its standard output."""
    command = [os.environ[variable], *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ended.returncode != 0:
        raise Refused(ended.stderr)
    return ended.stdout
