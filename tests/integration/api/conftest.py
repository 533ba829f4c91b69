"""The API as its unit runs it: a process of its own under a notification socket, on the real services."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.services import Services

ROOT = Path(__file__).resolve().parents[3]
AUDIENCE = "cpq-oms"
SCOPES = "quote:read quote:write order:read order:write catalog:read"
PATIENCE_S = 20.0


class Issuer:
    """Serves one key over HTTP and signs tokens with it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        body = json.dumps({"keys": [public | {"kid": "k-1", "alg": "ES256"}]}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self, tenant: str) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "tests", "tenant": tenant, "scope": SCOPES}
        return jwt.encode(claims | {"iat": now, "exp": now + 300}, self._key, "ES256", headers={"kid": "k-1"})

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class ApiProcess:
    """One run of the unit, with what it told its service manager."""

    def __init__(self, command: list[str], environ: Mapping[str, str], folder: Path, ports: tuple[int, int]) -> None:
        self.http, self.internal = (f"http://127.0.0.1:{port}" for port in ports)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environ, "NOTIFY_SOCKET": str(folder / "notify")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for(self, message: str, patience: float = PATIENCE_S) -> bool:
        """Whether a notification with that line arrives in time; stops early when the process ends."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            self._socket.settimeout(0.1)
            try:
                if message in self._socket.recv(4096).decode().splitlines():
                    return True
            except TimeoutError:
                if self.process.poll() is not None:
                    return False
        return False

    def messages_within(self, seconds: float) -> list[str]:
        """Every notification of the next seconds."""
        deadline = time.monotonic() + seconds
        messages = []
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                messages.append(self._socket.recv(4096).decode())
            except TimeoutError:
                break
        return messages

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> None:
        """End it whatever state it is in; the session is its own, so nobody else is hit."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(PATIENCE_S)
        self._socket.close()


StartApi = Callable[..., ApiProcess]


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    """An issuer of tokens."""
    issuer = Issuer()
    yield issuer
    issuer.stop()


@pytest.fixture
def start_api(services: Services, schema: None, issuer: Issuer, tmp_path: Path) -> Iterator[StartApi]:  # noqa: ARG001 (wanted for what it does)
    """Starts the API: `start_api(prelude="...", WATCHDOG_USEC="...")`; variables replace those of the unit."""
    started: list[ApiProcess] = []
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "db-password").write_text(services.secret("db_api_password"))
    (credentials / "redis-password").write_text(services.secret("redis_api_password"))

    def start(prelude: str = "", **variables: str) -> ApiProcess:
        ports = (_free_port(), _free_port())
        environ = {
            "PATH": os.environ["PATH"],
            "APP_ENV": services.environment,
            "APP_INSTANCE_ID": "api-tests",
            "TENANT_MODE": "multi",
            "OTLP_ENDPOINT": "",
            "TLS_CA_FILE": "",
            "LOG_LEVEL": "INFO",
            "HTTP_BIND": f"127.0.0.1:{ports[0]}",
            "METRICS_BIND": f"127.0.0.1:{ports[1]}",
            "API_WORKERS": "2",
            "API_HOSTS": "1",
            "DB_URL": services.database_url("api"),
            "DB_POOL_MAX": "8",
            "DB_READ_URL": "",
            "DB_READ_POOL_MAX": "4",
            "DB_STATEMENT_TIMEOUT": "PT4S",
            "REDIS_URL": f"redis://api@{services.address('redis')}/0",
            "AUTH_ISSUER": issuer.url,
            "AUTH_AUDIENCE": AUDIENCE,
            "AUTH_JWKS_URL": issuer.url,
            "KAFKA_BOOTSTRAP_SERVERS": services.address("kafka"),
            "CAMUNDA_GRPC_ADDRESS": services.address("zeebe"),
            "CREDENTIALS_DIRECTORY": str(credentials),
        }
        program = f"import sys\n{prelude}\nfrom app.entrypoints.api.__main__ import main\nsys.exit(main([]))"
        folder = tmp_path / f"run-{len(started)}"
        folder.mkdir()
        api = ApiProcess([sys.executable, "-c", program], environ | variables, folder, ports)
        started.append(api)
        return api

    yield start
    for api in started:
        api.stop()


@pytest.fixture
def serving(start_api: StartApi) -> ApiProcess:
    """An API that is READY."""
    api = start_api()
    assert api.wait_for("READY=1"), api.log.read_text()
    return api


@pytest.fixture
def client(serving: ApiProcess, issuer: Issuer, tenant_id: str) -> Iterator[httpx.Client]:
    """A client of that API in the test's own tenant."""
    headers = {"Authorization": f"Bearer {issuer.token(tenant_id)}"}
    with httpx.Client(base_url=serving.http, headers=headers, timeout=PATIENCE_S) as client:
        yield client


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
