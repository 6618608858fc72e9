"""The order of the tiers: what only compiles and counts beside the others, on what these leave of the cores; what is
measured, or would be starved, alone at the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import report
import shell
from tiers import Setting, Tier

LOWEST = 19


def run(tiers: Sequence[Tier], setting: Setting) -> list[report.Result]:
    """Runs all of them; returns how they ended, in their order."""
    results = {}

    def one_by_one(lane: Sequence[Tier]) -> None:
        for tier in lane:
            results[tier.name] = report.timed(tier.name, lambda: tier.run(setting))

    def beside() -> None:
        # Of this thread alone, and of all that it starts: on Linux each thread has a priority of its own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)
        one_by_one([tier for tier in tiers if tier.is_beside])

    # When this run is interrupted, it does not wait for the other lane.
    lane = threading.Thread(target=beside, daemon=True)
    lane.start()
    try:
        one_by_one([tier for tier in tiers if not tier.is_beside and not tier.is_alone])
        lane.join()
        one_by_one([tier for tier in tiers if tier.is_alone])
    except BaseException:
        shell.kill_all()
        raise
    # A tier that is missing has shown its traceback.
    lost = report.Outcome(failed=1, failures=["it did not end: what went wrong is above"])
    return [results.get(tier.name) or report.Result(tier.name, lost, 0) for tier in tiers]
