"""The edge's proxy on this machine: the role's own settings, the proxy of the host image, and servers that say who they are."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.filter.mathstuff import difference
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROLE = Path(__file__).resolve().parents[2] / "roles/edge"
IMAGES = Path("/var/cache/cpq-oms/images")
START_SECONDS = 10
SERVERS = {"api-1": "127.0.0.2", "api-2": "127.0.0.3", "api-3": "127.0.0.4"}


def settings(**variables: Any) -> str:
    """The settings that the role writes for its defaults and these variables."""
    environment = Environment(
        loader=FileSystemLoader(ROLE / "templates"),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    environment.filters["difference"] = lambda one, other: difference(environment, one, other)
    declared = {
        name: value
        for file in ("defaults", "vars")
        for name, value in yaml.safe_load((ROLE / file / "main.yml").read_text()).items()
    }
    return environment.get_template("etc/haproxy/haproxy.cfg.j2").render(declared | variables)


def proxy_command() -> list[str]:
    """How the proxy of the newest host image that has one is started here, with libraries of its own."""
    proxies = sorted(IMAGES.glob("[!.]*/root/usr/sbin/haproxy"), key=lambda path: path.stat().st_ctime)
    assert proxies, f"{IMAGES}: no host image with a proxy, which make release builds"
    root = proxies[-1].parents[2]
    return [
        str(root / "lib64/ld-linux-x86-64.so.2"),
        "--library-path",
        str(root / "usr/lib/x86_64-linux-gnu"),
        str(root / "usr/sbin/haproxy"),
    ]


class _Listener(http.server.ThreadingHTTPServer):
    """Says nothing of health checks that hang up."""

    def handle_error(self, *_arguments: Any) -> None:
        pass


@dataclass
class Server:
    """A server of the API that answers with its name; `is_ready` is what its health check hears."""

    name: str
    is_ready: bool = True
    release: threading.Event = field(default_factory=threading.Event)

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        """What answers: at once, except for a path that holds the request until it is released."""
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/v1/held":
                    server.release.wait(10)
                healthy = self.path != "/health/ready" or server.is_ready
                body = server.name.encode()
                self.send_response(200 if healthy else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                pass

        return Handler


@dataclass(frozen=True)
class Edge:
    """A proxy that runs, and what stands behind it."""

    port: int
    socket: Path
    servers: Mapping[str, Server]

    def ask(self, path: str = "/v1/quotes", token: str | None = None) -> tuple[int, str]:
        """Ask as a client does; status, and the name of who answered."""
        context = ssl._create_unverified_context()
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=15, context=context)
        try:
            connection.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def command(self, command: str) -> str:
        """Put a command to the proxy's runtime socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            connection.sendall(f"{command}\n".encode())
            return connection.makefile("rb").read().decode()


@contextmanager
def edge(folder: Path, **variables: Any) -> Iterator[Edge]:
    """Start servers and the proxy in front of them, on addresses of this machine alone; all end with the block."""
    ports = _free_ports(4)
    servers = {name: Server(name) for name in SERVERS}
    _write_certificate(folder)
    text = settings(
        edge_address="127.0.0.1",
        edge_own_address="127.0.0.1",
        edge_certificate=str(folder / "cert.pem"),
        edge_key=str(folder / "key.pem"),
        edge_api_servers=SERVERS,
        edge_api_port=ports[0],
        edge_callback_servers={"callback-1": "127.0.0.9"},
        edge_callback_port=ports[0],
        edge_max_connections=200,
        edge_slow_start=1,
        edge_metrics_port=ports[1],
        __edge_ready_port=ports[2],
        **variables,
    )
    control = folder / "admin.sock"
    text = text.replace("bind *:443 ", f"bind 127.0.0.1:{ports[3]} ").replace("/run/haproxy/admin.sock", str(control))
    (folder / "haproxy.cfg").write_text(text)
    listening = [_Listener((SERVERS[name], ports[0]), server.handler()) for name, server in servers.items()]
    for each in listening:
        threading.Thread(target=each.serve_forever, daemon=True).start()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*proxy_command(), "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        running = Edge(ports[3], control, servers)
        _wait_for(process, ports[3], folder / "log")
        yield running
    finally:
        process.kill()
        process.wait(10)
        for each in listening:
            each.shutdown()
            each.server_close()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def _free_ports(number: int) -> list[int]:
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(each.getsockname()[1]) for each in opened]
    for each in opened:
        each.close()
    return ports


def _write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
