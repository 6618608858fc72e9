"""The charts' READMEs: current, and of every value."""

import os
import unittest

from chart import load
from readme import CHARTS, made


class Readme(unittest.TestCase):
    """What a person reads before the installation."""

    def test_there_are_charts(self):
        self.assertEqual([chart.name for chart in CHARTS], ["dev-session-template", "session-gateway"])

    def test_it_is_current(self):
        how = f"to write it: HELM_DOCS={os.environ['HELM_DOCS']} PYTHONPATH={os.environ.get('PYTHONPATH')} " \
              "python3 tests/charts/readme.py"
        for chart in CHARTS:
            with self.subTest(chart.name):
                self.assertEqual((chart / "README.md").read_text(), made(chart), how)

    def test_every_value_is_described(self):
        for chart in CHARTS:
            rows = made(chart).split("|-----|------|---------|-------------|\n")[1].strip().splitlines()
            described = {}
            for row in rows:
                key, *_, description = row.replace(r"\|", "").strip("| ").split(" | ")
                described[key] = description
            [values] = load((chart / "values.yaml").read_text())
            for key in leaves(values):
                with self.subTest(chart=chart.name, key=key):
                    # An object that is described as a whole speaks for what is in it.
                    parts = key.split(".")
                    speakers = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
                    self.assertTrue(any(described.get(speaker) for speaker in speakers))


def leaves(values, prefix=""):
    """The keys of all values that are no sections."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
