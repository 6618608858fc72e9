"""The charts' READMEs, made by helm-docs from README.md.gotmpl and from the comments of values.yaml.

This file writes them, after either has changed. The test that holds them current tells the command.
"""

from chart import program, ROOT

CHARTS = sorted(path.parent for path in (ROOT / "deploy/charts").glob("*/Chart.yaml"))


def made(chart):
    """What the README has to be."""
    return program("HELM_DOCS", "--chart-search-root", chart, "--sort-values-order", "file", "--dry-run").strip() + "\n"


if __name__ == "__main__":
    for folder in CHARTS:
        (folder / "README.md").write_text(made(folder))
