"""The rows of the table: what is measured, against whom, and how much it may be. Adding one is a few lines of ROWS."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from proxies import FILES, LOAD_CORE, PATH, PROXY_CORE, Bench, Proxy, client
from shell import Unavailable

OURS = "gateway"


@dataclass(frozen=True)
class Peer:
    """Another proxy, and the ratio that ours must not exceed, and may hope for."""

    name: str
    must: float
    aim: float


@dataclass(frozen=True)
class Row:
    """One line of the table for each peer. `cell` measures one proxy once; the smaller figure is the better one."""

    name: str
    unit: str
    cell: Callable[[Bench, Proxy, bool], float]
    peers: list[Peer]
    # Of the must: a ratio to the peer's figure, or a figure.
    is_absolute: bool = False
    # Of a program alone: the cell is given the peer's name.
    needs_proxy: bool = True
    # Of cells that last a fraction of a second: so many in each round's place, since what disturbs them is as short.
    times: int = 1
    # Proxies cannot be measured again in the state that the first measurement left: few rounds, each of a new process.
    is_fresh: bool = False


def requests(size: int, connections: int, count: int) -> Callable[[Bench, Proxy, bool], float]:
    """CPU of a request, as many as are answered."""

    def cell(bench: Bench, proxy: Proxy, quick: bool) -> float:
        client(bench.load, proxy, path=f"{PATH}/{size}", connections=connections, count=connections * 4)
        return cpu(bench, proxy, count // 3 if quick else count, path=f"{PATH}/{size}", connections=connections)

    return cell


def cpu(bench: Bench, proxy: Proxy, count: int, **asked: object) -> float:
    """CPU microseconds of each of so many."""
    before = proxy.cpu()
    said = client(bench.load, proxy, count=count, **asked)
    spent = (proxy.cpu() - before) / 1000 / count
    # Whoever waits for the load is not measured: the load has a core of its own, and must need less of it.
    bench.loads.append(said["cpu_ns"] / 1000 / count / spent)
    return spent


def rate(bench: Bench, proxy: Proxy, quick: bool) -> float:
    return cpu(bench, proxy, 8_000 if quick else 24_000, path=f"{PATH}/128", connections=64, rate=8000)


def messages(bench: Bench, proxy: Proxy, quick: bool) -> float:
    return cpu(bench, proxy, 20_000 if quick else 60_000, kind="ws", path=f"{PATH}/ws", connections=32)


def bulk(bench: Bench, proxy: Proxy, quick: bool) -> float:
    """CPU milliseconds of a GB, the mean of both directions, through four tunnels."""
    frames = 800 if quick else 1600
    before = proxy.cpu()
    for kind in ["down", "up"]:
        client(bench.load, proxy, kind=kind, path=f"{PATH}/{kind}/{frames}", connections=4, count=frames)
    return (proxy.cpu() - before) / 1e6 / (2 * 4 * frames * 65536 / 1e9)


def idle(at_once: int, quick_count: int, count: int) -> Callable[[Bench, Proxy, bool], float]:
    """KiB of resident memory for each idle websocket, two seconds after the last has opened."""

    def cell(bench: Bench, proxy: Proxy, quick: bool) -> float:
        connections = quick_count if quick else count
        before = proxy.memory()
        words = ["client", f"to={proxy.address}", "kind=idle", f"path={PATH}/ws", f"connections={connections}",
                 f"at_once={at_once}"]
        with spawned(bench, *words):
            time.sleep(2)
            return (proxy.memory() - before) / 1024 / connections

    return cell


def half(bench: Bench, proxy: Proxy, quick: bool) -> float:
    """p99 microseconds at half of what nginx answers when it is saturated."""
    if not bench.half:
        said = client(bench.load, bench.proxy("nginx"), path=f"{PATH}/128", connections=64, count=30_000)
        bench.half = int(said["done"] / said["seconds"] / 2)
    count = bench.half * (1 if quick else 3)
    return client(bench.load, proxy, path=f"{PATH}/128", connections=64, count=count, rate=bench.half)["p99_us"]


def events(bench: Bench, proxy: Proxy, quick: bool) -> float:
    """p99 milliseconds from an event's writing to its arrival, ten a second on each of ten connections."""
    said = client(bench.load, proxy, kind="sse", path=f"{PATH}/sse", connections=10, count=200 if quick else 500)
    return said["p99_us"] / 1000


def events_http2(bench: Bench, proxy: Proxy, quick: bool) -> float:
    """The same on ten streams of one connection of HTTP/2."""
    count = 200 if quick else 500
    return client(bench.load, proxy.http2, "events", path=f"{PATH}/sse", connections=10, count=count)["p99_us"] / 1000


def handshakes(bench: Bench, proxy: Proxy, quick: bool) -> float:
    """CPU of a TLS connection with one request on it: TLS 1.3, one cipher and one key exchange, nothing resumed."""
    secure = bench.proxy(f"{proxy.name}-tls")
    asked = {"program": "tls", "path": f"{PATH}/128", "connections": 8}
    client(bench.load, secure, count=50, **asked)
    return cpu(bench, secure, 400 if quick else 1500, **asked)


def lookup(bench: Bench, peer: str, _: bool) -> float:
    """Nanoseconds to find one of 100,000 sessions; of the peer, one of ten."""
    sessions = "100000" if peer == OURS else "10"
    ended = subprocess.run(["taskset", "-c", PROXY_CORE, bench.lookup, sessions], capture_output=True, text=True,
                           timeout=120, check=True)
    return json.loads(ended.stdout)["ns"]


def neighbours(bench: Bench, proxy: Proxy, quick: bool) -> float:
    """How many times the p99 of a healthy client is what it was, once 200 others read and 200 write slowly.

    They are timed once nothing moves any more of what the readers asked for: until then all are busy with that.
    """
    asked = {"path": f"{PATH}/128", "connections": 8, "count": 4000 if quick else 12_000, "rate": 2000}
    alone = client(bench.load, proxy, **asked)["p99_us"]
    with spawned(bench, "slow", proxy.address, PATH, "200"):
        return client(bench.load, proxy, **asked)["p99_us"] / alone


@contextlib.contextmanager
def spawned(bench: Bench, *words: str) -> Iterator[None]:
    """A load that goes on while something else is measured; it has said so when it is under way."""
    command = ["prlimit", f"--nofile={FILES}", "taskset", "-c", LOAD_CORE, str(bench.load), *words]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        if not process.stdout.readline():
            raise Unavailable(f"{' '.join(words)}: {process.stderr.read()[-400:]}")
        yield
    finally:
        process.kill()
        process.communicate()


BOTH = [Peer("nginx", 1.0, 0.8), Peer("haproxy", 1.0, 0.8)]
# What must hold against the better of two must hold against each.
BIG = [Peer("nginx-big", 1.0, 0.85), Peer("haproxy-big", 1.0, 0.85)]

ROWS = [
    Row("resolution", "us", requests(128, 32, 20_000), [Peer("gateway-again", 1.05, 1.0)], times=4),
    Row("plain_128_c32", "us", requests(128, 32, 20_000), BOTH, times=4),
    Row("plain_128_c256", "us", requests(128, 256, 20_000), BOTH, times=4),
    Row("plain_4k_c32", "us", requests(4096, 32, 20_000), BOTH, times=4),
    Row("plain_4k_c256", "us", requests(4096, 256, 20_000), BOTH, times=4),
    Row("rate_128", "us", rate, [Peer("nginx", 1.1, 0.92)], times=2),
    Row("body_64k", "us", requests(65536, 32, 6_000), BIG, times=4),
    Row("body_1m", "us", requests(1 << 20, 32, 900), BIG, times=4),
    Row("ws_64", "us", messages, [Peer("nginx", 1.1, 0.95), Peer("haproxy", 1.0, 0.85)], times=4),
    Row("ws_bulk", "ms/GB", bulk, [Peer("haproxy-big", 1.0, 0.6)]),
    Row("tls_new", "us", handshakes, [Peer("nginx", 1.0, 0.75)]),
    Row("latency_half", "us", half, [Peer("nginx", 1.5, 1.0)]),
    Row("chp", "us", requests(128, 32, 6_000), [Peer("chp", 0.15, 0.083)]),
    Row("ws_memory", "KiB", idle(64, 2000, 9000), [Peer("haproxy", 4.0, 2.0)], is_absolute=True, is_fresh=True),
    Row("ws_memory_burst", "KiB", idle(2000, 2000, 2000), [Peer("haproxy", 6.0, 3.0)], is_absolute=True, is_fresh=True),
    Row("lookup_100k", "ns", lookup, [Peer("of-10", 1000.0, 100.0)], is_absolute=True, needs_proxy=False),
    Row("sse_lag", "ms", events, [Peer("nginx", 20.0, 5.0)], is_absolute=True),
    Row("sse_lag_http2", "ms", events_http2, [Peer("nginx", 20.0, 5.0)], is_absolute=True),
    Row("slow_neighbours", "times", neighbours, [Peer("nginx", 2.0, 1.0)], is_absolute=True),
]
