"""The proxies of a comparison: what each is configured as, how it is started, and what it has cost so far."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cache
import install
from shell import Unavailable

# The proxies share the first core; both ends of the load have the second to themselves.
PROXY_CORE, LOAD_CORE = "0", "1"
SESSION = str(uuid.UUID("6f1c1c4e-7d3b-4a57-9f0e-2b1f0c9d8e7a"))
PATH = f"/{SESSION}/preview"
PATIENCE = 30
# With a sixteenth of them, the gateway keeps itself able to work.
FILES = 20_000


@dataclass
class Proxy:
    """A proxy that runs."""

    name: str
    address: str
    process: subprocess.Popen
    # The processes whose work is a proxy's own: for the gateway not the services that it started.
    pids: list[int]
    # Where it takes HTTP/2 from clients that know beforehand.
    http2: str = ""
    # The file of its certificate, if it speaks TLS.
    certificate: str = ""

    def cpu(self) -> int:
        """CPU nanoseconds so far, from each process's own clock: /proc counts in steps of 10 ms."""
        return sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in self.pids)

    def memory(self) -> int:
        """Resident bytes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * os.sysconf("SC_PAGESIZE")

    def check(self) -> None:
        """One answer before anything is timed: its status, its body, and that forwarding headers are sent."""
        head = fetch(self.address, f"{PATH}/headers", self.certificate).decode().lower()
        scheme = "https" if self.certificate else "http"
        for field in ["x-forwarded-for: 127.0.0.1", f"x-forwarded-proto: {scheme}\r", "x-forwarded-host: "]:
            if field not in head and self.name != "chp":
                raise SystemExit(f"{self.name} does not send {field}:\n{head}")
        if fetch(self.address, f"{PATH}/4096", self.certificate) != b"x" * 4096:
            raise SystemExit(f"{self.name} answers with another body")

    def end(self) -> None:
        """Ends this process, and with it those that it started."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def fetch(address: str, path: str, certificate: str = "") -> bytes:
    """The body of a 200; with a certificate by TLS."""
    host, port = address.split(":")
    if certificate:
        context = ssl.create_default_context(cafile=certificate)
        # Its name is that of this machine, its address is a number.
        context.check_hostname = False
        connection = http.client.HTTPSConnection(host, int(port), timeout=PATIENCE, context=context)
    else:
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{address}{path} answered {answer.status}: {body[:500]!r}")
    return body


def start(name: str, address: str, *command: str | Path, of_children: bool = False, **env: str) -> Proxy:
    """Starts a proxy on its core and waits until it accepts."""
    log = Path(os.environ["BENCH_FOLDER"]) / f"{name}.log"
    limit = ["prlimit", f"--nofile={FILES}"]
    process = subprocess.Popen([*limit, "taskset", "-c", PROXY_CORE, *map(str, command)], env={**os.environ, **env},
                               stdin=subprocess.DEVNULL, stdout=log.open("w"), stderr=subprocess.STDOUT)
    host, port = address.split(":")
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                raise SystemExit(f"{name} did not start:\n{log.read_text()}") from None
            time.sleep(0.02)
    pids = [process.pid]
    if of_children:
        pids += map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    return Proxy(name, address, process, pids)


def debian(name: str) -> str:
    """A program of Debian, installed if it is not there."""
    path = f"/usr/sbin:{os.environ['PATH']}"
    if shutil.which(name, path=path) is None:
        install.apt("nginx-light" if name == "nginx" else name)
    return shutil.which(name, path=path) or install.missing(f"{name} is not there after its installation")


class Bench:
    """All proxies before one backend, each started when a row first asks for it."""

    def __init__(self, folder: Path, gateway: Path, load: Path, root: Path) -> None:
        self.folder, self.gateway, self.load, self.root = folder, gateway, load, root
        self.running: dict[str, Proxy] = {}
        self.backend = 0
        self.next = 18080
        # Of each cell, the load's CPU as a part of the proxy's; and half of saturation, once it is known.
        self.loads: list[float] = []
        self.half = 0
        # The program of the lookups, if they are to be measured.
        self.lookup: Path | None = None
        os.environ["BENCH_FOLDER"] = str(folder)

    def address(self) -> str:
        """A free one of this machine alone."""
        self.next += 1
        return f"127.0.0.1:{self.next}"

    def certificate(self) -> tuple[str, str]:
        """A certificate as most have them, and its key."""
        file, key = self.folder / "bench.crt", self.folder / "bench.key"
        if not file.exists():
            config = self.folder / "openssl.cnf"
            config.write_text("[req]\ndistinguished_name = name\nx509_extensions = own\nprompt = no\n"
                              "[name]\nCN = localhost\n"
                              "[own]\nsubjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n")
            curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
            subprocess.run([debian("openssl"), "req", "-x509", *curve, "-noenc", "-config", config, "-days", "2",
                            "-keyout", key, "-out", file], check=True, capture_output=True)
        return str(file), str(key)

    def proxy(self, name: str) -> Proxy:
        """The proxy of this name."""
        if name not in self.running:
            if not self.backend and not name.startswith("gateway"):
                self.proxy("gateway")
            makers: dict[str, Callable[[str], Proxy]] = {
                "nginx": self.nginx, "haproxy": self.haproxy, "chp": self.chp, "gateway": self.start_gateway}
            made = makers[name.split("-")[0]](name)
            self.running[name] = made
            made.check()
        return self.running[name]

    def renew(self, name: str) -> Proxy:
        """A process of this name that has served nothing yet but its check."""
        if name == "gateway" and name in self.running:
            # The backend of the others is a child of that one.
            return self.replaced("gateway-fresh")
        return self.replaced(name)

    def replaced(self, name: str) -> Proxy:
        if name in self.running:
            self.running.pop(name).end()
        return self.proxy(name)

    def close(self) -> None:
        """Ends everything that was started."""
        for proxy in self.running.values():
            proxy.end()

    def start_gateway(self, name: str) -> Proxy:
        """Our own, as it is shipped; the backend is a service of one local session, on a core of its own."""
        address, port = self.address(), self.folder / f"{name}.port"
        service = {"preview": {"command": ["taskset", "-c", LOAD_CORE, str(self.load), "backend", str(port)]}}
        config = {
            "listen": address, "workers": 1, "admin": {"listen": self.address()},
            "service": {"preview": {"prefix": "keep"}},
            "limits": {"connections": 15000, "connections_per_client": 15000, "requests_per_session": 15000,
                       "tunnels_per_session": 15000},
            "local": {"data": str(self.folder / f"{name}.data"), "grace": "1s", "services": service},
            "log": {"level": "warn"}, "spawn": {"hold": "20s"}, "shutdown": {"grace": "2s"},
        }
        certificate = ""
        if name.endswith("-tls"):
            certificate, key = self.certificate()
            config["tls"] = {"certificates": {"bench": {"certificate": certificate, "key": key}}}
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps(config))
        made = start(name, address, self.gateway, "serve", "--config", file)
        made.http2, made.certificate = address, certificate
        try:
            fetch(address, f"{PATH}/128", certificate)
        except BaseException:
            made.end()
            raise
        if not self.backend:
            self.backend = int(port.read_text().split()[0])
        return made

    def nginx(self, name: str) -> Proxy:
        """One worker, a pool to the backend, no log; `-big` with large buffers, `-tls` with a certificate."""
        address, http2, pid = self.address(), self.address(), self.folder / f"{name}.pid"
        certificate, tls = "", ""
        if name.endswith("-tls"):
            certificate, key = self.certificate()
            tls = f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"
        entries = "\n".join(f"    {uuid.uuid5(uuid.NAMESPACE_URL, str(at))} session;" for at in range(1000))
        big = ("proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"
               if name.endswith("-big") else "")
        config = self.folder / f"{name}.conf"
        config.write_text(f"""
daemon off; worker_processes 1; worker_rlimit_nofile {FILES}; pid {pid}; error_log stderr error; pcre_jit on;
events {{ worker_connections {FILES}; multi_accept on; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 75s; map_hash_max_size 8192;
  map_hash_bucket_size 128;
  upstream session {{ server 127.0.0.1:{self.backend}; keepalive 512; keepalive_requests 1000000000; }}
  map $uuid $session {{
    {SESSION} session;
{entries}
  }}
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  server {{
    listen {address} {"ssl" if tls else ""} backlog=8192; listen {http2} http2; {tls}
    client_body_temp_path {self.folder}/{name}.body;
    proxy_temp_path {self.folder}/{name}.temp;
    location ~ ^/(?<uuid>[0-9a-f-]+)/(preview|chat|vscode)(/|$) {{
      if ($session = '') {{ return 404; }}
      proxy_pass http://session; proxy_http_version 1.1; {big}
      proxy_set_header Connection $connection_upgrade; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
      proxy_read_timeout 3600s; proxy_send_timeout 3600s;
    }}
  }}
}}
""")
        made = start(name, address, debian("nginx"), "-e", "stderr", "-c", config, of_children=True)
        made.http2, made.certificate = http2, certificate
        return made

    def haproxy(self, name: str) -> Proxy:
        """One thread, connections to the backend shared by all, no log; `-big` with larger buffers."""
        address, sessions = self.address(), self.folder / f"{name}.map"
        entries = [f"{uuid.uuid5(uuid.NAMESPACE_URL, str(at))} session" for at in range(1000)]
        sessions.write_text("\n".join([f"{SESSION} session", *entries, ""]))
        big = "tune.bufsize 65536" if name.endswith("-big") else ""
        config = self.folder / f"{name}.cfg"
        config.write_text(f"""
global
  nbthread 1
  maxconn 9400
  {big}
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 120s
  timeout tunnel 12h
  option http-keep-alive
  http-reuse always
frontend in
  bind {address} backlog 8192
  http-request set-var(txn.uuid) path,field(2,/) if {{ path_reg ^/[0-9a-f-]+/(preview|chat|vscode)(/|$) }}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  use_backend %[var(txn.uuid),map({sessions})]
backend session
  server one 127.0.0.1:{self.backend} pool-max-conn 512
""")
        return start(name, address, debian("haproxy"), "-db", "-f", config)

    def chp(self, name: str) -> Proxy:
        """The proxy of JupyterHub, which knows one route."""
        source = self.root / "benches/chp"

        def make(new: Path) -> None:
            install.node_modules(source, new)

        home = cache.keep("chp", cache.key(source / "package-lock.json"), make)
        address, admin = self.address(), self.address()
        program = home / "node_modules/configurable-http-proxy/bin/configurable-http-proxy"
        ports = [f"--ip={address.split(':')[0]}", f"--port={address.split(':')[1]}", "--api-ip=127.0.0.1",
                 f"--api-port={admin.split(':')[1]}", "--log-level=error",
                 f"--default-target=http://127.0.0.1:{self.backend}"]
        return start(name, address, install.node(), program, *ports, NODE_ENV="production")


def client(load: Path, proxy: Proxy | str, program: str = "client", **asked: object) -> dict:
    """Runs a client to its end; whatever it finds wrong ends the row."""
    address = proxy if isinstance(proxy, str) else proxy.address
    words = [f"{key}={value}" for key, value in {"to": address, **asked}.items()]
    ended = subprocess.run(["prlimit", f"--nofile={FILES}", "taskset", "-c", LOAD_CORE, load, program, *words],
                           capture_output=True, text=True, timeout=180)
    if ended.returncode != 0:
        raise Unavailable(f"{address}: {' '.join(words)}: {ended.stderr.strip()[-400:]}")
    return json.loads(ended.stdout)
