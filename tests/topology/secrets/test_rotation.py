"""Secrets change while requests come in: none fails, the former value is dead, and neither is anywhere where it may not be."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from redis import AuthenticationError, Redis

from app.contracts.callbacks import SIGNATURE_HEADER, TIMESTAMP_HEADER, callback_path, signature, tenant_key
from app.contracts.loader import load_secrets
from playbooks.module_utils import secret_access_log
from tests.support import secret_search
from tests.support.api_client import TENANT, ApiClient
from tests.support.released_host import ReleasedHost, find_host

ROOT = Path(__file__).resolve().parents[3]
INVENTORY = Path(os.environ.get("CPQ_TEST_INVENTORY", ROOT / "tests/support/inventories/ci"))
RECORD = Path("/etc/cpq-oms/secret-access.jsonl")
ROTATED = ("db_api_password", "redis_api_password", "kafka_relay_password", "payment_callback_secret")
UNAUTHORIZED = 401


@pytest.fixture(scope="module")
def host() -> ReleasedHost:
    return find_host()


def play(playbook: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook on the environment for tests, as loudly as it can."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(INVENTORY),
        playbook,
        "-vvv",
        "--diff",
        *words,
    ]
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=240)


@dataclass
class Load:
    """Requests of a customer, each on a connection of its own, and what went wrong with any of them."""

    host: ReleasedHost
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def send(self) -> None:
        client = ApiClient(self.host)
        headers, base = dict(client.api.headers), str(client.api.base_url)
        body = {"customerId": "c-1", "currency": "EUR", "items": [{"offeringId": "fiber-1000", "quantity": 1}]}
        client.close()
        while not self._end.is_set():
            try:
                key = {"Idempotency-Key": str(uuid.uuid4()), "Connection": "close"}
                made = httpx.post(f"{base}/v1/quotes", json=body, headers=headers | key, timeout=30)
                made.raise_for_status()
                httpx.get(f"{base}{made.headers['Location']}", headers=headers, timeout=30).raise_for_status()
                self.answered += 2
            except httpx.HTTPError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self._end.wait(0.1)

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(2) as pool:
            threads = [pool.submit(self.send) for _ in range(2)]
            try:
                yield
            finally:
                self._end.set()
        for thread in threads:
            thread.result()


def is_taken(host: ReleasedHost, name: str, value: str) -> bool:
    """Log in with a value of a secret as its holder does."""
    if name == "db_api_password":
        try:
            psycopg.connect(f"postgresql://cpq_api@{host.address}:5432/cpq", password=value, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" not in str(error):
                raise
            return False
        return True
    if name == "redis_api_password":
        client = Redis(host=host.address, username="api", password=value, protocol=2)
        try:
            return bool(client.ping())
        except AuthenticationError:
            return False
        finally:
            client.close()
    if name == "kafka_relay_password":
        return any(_logs_in_to_kafka(host, value, mechanism) for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"))
    body, stamp = b"{}", int(time.time())
    headers = {
        TIMESTAMP_HEADER: str(stamp),
        SIGNATURE_HEADER: signature(tenant_key(value, "payment", TENANT), stamp, body),
    }
    answer = httpx.post(f"http://{host.address}:8085{callback_path('payment', TENANT)}", content=body, headers=headers)
    return answer.status_code != UNAUTHORIZED


def _logs_in_to_kafka(host: ReleasedHost, password: str, mechanism: str) -> bool:
    try:
        KafkaAdminClient(
            bootstrap_servers=[f"{host.address}:9092"],
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism=mechanism,
            sasl_plain_username="relay",
            sasl_plain_password=password,
            bootstrap_timeout_ms=3000,
        ).close()
    except KafkaError:
        return False
    return True


def test_secrets_change_under_requests_and_leak_nowhere(host: ReleasedHost, tmp_path: Path) -> None:
    """One test, since every rotation costs restarts: each is watched in all processes, and searched for in all output afterwards."""
    former = {name: host.secret(name) for name in ROTATED}
    new = {name: secrets.token_hex(20) for name in ROTATED}
    # Generated at first use: an environment without a backup host, say, has no passphrase for backups.
    store = Path("/var/lib/cpq-oms") / host.environment / "secrets"
    generated = {path.name for path in store.iterdir()} & set(load_secrets().secrets)
    every = {name: host.secret(name) for name in generated - set(ROTATED)}
    every |= {f"former {name}": value for name, value in former.items()} | {
        f"new {name}": value for name, value in new.items()
    }

    def run(command: str, standard_input: str) -> str:
        return host.run(command, standard_input=standard_input).stdout

    load, output, before = Load(host), [], len(secret_access_log.read(RECORD)[0])
    with ThreadPoolExecutor(1) as pool, load.running():
        watching = pool.submit(secret_search.watch, run, every)
        try:
            for name in ROTATED:
                assert is_taken(host, name, former[name]), name
                (tmp_path / name).write_text(new[name])
                done = play(
                    "playbooks/rotate_secret.yml",
                    "-e",
                    f"secret={name}",
                    "-e",
                    f"new_value_file={tmp_path / name}",
                )
                output.append(done.stdout + done.stderr)
                assert done.returncode == 0, f"{name}\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
        finally:
            host.run(secret_search.STOP_WATCHING)
    assert load.answered > 50
    assert load.failures == []

    assert {name: host.secret(name) for name in ROTATED} == new
    assert [name for name in ROTATED if is_taken(host, name, former[name])] == []
    assert [name for name in ROTATED if not is_taken(host, name, new[name])] == []
    assert not (store / "rotation.json").exists()

    assert watching.result() == []
    assert secret_search.search(run, every) == []
    assert secret_search.in_text("".join(output), every) == []
    assert secret_search.in_files([*(ROOT / "dist").rglob("*"), RECORD], every) == []
    assert secret_search.in_history(ROOT, every) == []

    entries, broken = secret_access_log.read(RECORD)
    assert broken is None
    changes = [(one["did"], one["secret"], one["environment"]) for one in entries[before:]]
    for name in ROTATED:
        assert ("began the rotation of", name, host.environment) in changes
        assert ("ended the rotation of", name, host.environment) in changes
    shown = play("playbooks/secret_audit.yml").stdout
    assert "ended the rotation of db_api_password" in shown
    assert "wrote /etc/cpq-oms/credentials/api/db-password as root" in shown
    assert "wrote /etc/redis/users.acl as root" in shown


def test_the_search_finds_what_is_planted(host: ReleasedHost) -> None:
    canaries = {
        place: f"canary{secrets.token_hex(20)}"
        for place in ("journal", "environ", "cmdline", "/var/tmp/canary", "nowhere")
    }

    def run(command: str, standard_input: str) -> str:
        return host.run(command, standard_input=standard_input).stdout

    host.run("logger -f /dev/stdin; journalctl --sync", standard_input=f"{canaries['journal']}\n")
    host.run(f"CANARY={canaries['environ']} timeout 20 sleep 19 >/dev/null 2>&1 &")
    host.run(f"exec -a {canaries['cmdline']} timeout 20 sleep 18 >/dev/null 2>&1 & exit")
    host.run("cat > /var/tmp/canary", standard_input=canaries["/var/tmp/canary"])
    try:
        found = secret_search.search(run, canaries)
    finally:
        host.run("rm /var/tmp/canary")

    assert {f"{place} in {place}" for place in canaries if place != "nowhere"} <= set(found)
    assert not [line for line in found if line.startswith("nowhere")]
