"""Runs all tests of the charts and prints how many passed: `python3 tests/charts`, as tests/run does."""

import sys
import unittest
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    tests = unittest.defaultTestLoader.discover(str(FOLDER), pattern="test_*.py")
    result = unittest.TextTestRunner(verbosity=1).run(tests)
    # A test of several cases has one failure for each of them, and fails once.
    failed = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors})
    sys.stderr.flush()
    print(f"{result.testsRun - failed} passed\n{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
