"""Each component is let in by its own credential to what is its own, and by no other and to nothing else."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.support.rehearsal import Rehearsal

TOPIC = "oms.order.events.v1"
ROOTS = "/etc/cpq-oms/tls/ca.pem"
# Unit: a statement within its rights, and statements beyond them.
STATEMENTS = {
    "api": ("SELECT count(*) FROM cpq.migration_ledger", ["UPDATE cpq.outbox_event SET state = DEFAULT", "DELETE FROM cpq.audit_entry"]),
    "relay": ("SELECT count(*) FROM cpq.outbox_event", ["SELECT * FROM cpq.quote", "DELETE FROM cpq.outbox_event"]),
    "worker": ("SELECT count(*) FROM cpq.migration_ledger", ["SELECT * FROM cpq.quote", "DELETE FROM cpq.product_order"]),
    "consumer": ("SELECT count(*) FROM cpq.migration_ledger", ["SELECT * FROM cpq.outbox_event", "DELETE FROM cpq.product_order"]),
    "callback": ("SELECT count(*) FROM cpq.migration_ledger", ["SELECT * FROM cpq.quote", "UPDATE cpq.outbox_event SET state = DEFAULT"]),
}  # fmt: skip
# What a component of that kind would answer to these bytes without TLS.
REDIS, HTTP = b"PING\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
KAFKA = bytes.fromhex("0000000a 0012 0000 00000001 ffff")
GRPC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)


class Listener(NamedTuple):
    """Where something answers."""

    tier: str
    # A tier that may ask it.
    asking: str
    port: int
    # What a service of its kind answers without TLS; for PostgreSQL its own client asks.
    greeting: bytes = b""
    # What openssl must say first.
    starting: str = ""


LISTENERS = [
    Listener("redis", "api", 6379, REDIS),
    Listener("kafka", "relay", 9092, KAFKA),
    Listener("zeebe", "worker", 26500, GRPC),
    Listener("db", "db", 8008, HTTP),
    Listener("db", "db", 2379, HTTP),
    Listener("db", "api", 5432, starting="-starttls postgres"),
    Listener("edge", "simulator", 443, HTTP),
]
# The call that every client of the engine makes, with what it is given: certificate and key, or nothing.
CALL = """
import sys, grpc
given = sys.stdin.buffer.read()
roots = open("/etc/cpq-oms/tls/ca.pem", "rb").read()
credentials = grpc.ssl_channel_credentials(roots, given or None, given or None)
with grpc.secure_channel(sys.argv[1], credentials) as channel:
    call = channel.unary_unary("/gateway_protocol.Gateway/Topology")
    print("answered", len(call(b"", timeout=10)) > 0)
"""


class Components:
    """What the tests do on hosts: no secret is on a command line, and each is asked from where it may be asked."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal

    def address(self, tier: str) -> str:
        return self.rehearsal.hosts[self.rehearsal.groups[tier][0]]

    def on(self, tier: str, command: str, given: str = "") -> tuple[int, str]:
        # Where the external systems are real ones, a machine of the rehearsal's own stands for them.
        hosts = self.rehearsal.groups[tier] or (["stand-in"] if tier == "simulator" else [])
        done = self.rehearsal.run(hosts[0], command, check=False, standard_input=given, seconds=60)
        return done.returncode, done.stdout + done.stderr

    def query(self, unit: str, role: str, secret: str, statement: str, how: str = "") -> tuple[int, str]:
        hosts = ",".join(self.rehearsal.hosts[host] for host in self.rehearsal.groups["db"])
        where = (
            f"host={hosts} port=5432 dbname=cpq user={role} target_session_attrs=read-write connect_timeout=10 {how}"
        )
        psql = f"psql --no-psqlrc --tuples-only --set=ON_ERROR_STOP=1 --dbname='{where}' --command='{statement}'"
        return self.on(
            unit, f"IFS= read -r PGPASSWORD; export PGPASSWORD; {psql}", self.rehearsal.secret(secret) + "\n"
        )

    def redis(self, unit: str, user: str, secret: str, command: str) -> str:
        client = f"redis-cli -h {self.address('redis')} --tls --cacert {ROOTS}"
        return self.on(unit, client, f"AUTH {user} {self.rehearsal.secret(secret)}\n{command}\n")[1]

    def kafka(self, unit: str, user: str, secret: str, action: str) -> tuple[int, str]:
        settings = {
            "bootstrap.servers": f"{self.address('kafka')}:9092",
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": ROOTS,
            "sasl.mechanisms": "SCRAM-SHA-256",
            "sasl.username": user,
            "sasl.password": self.rehearsal.secret(secret),
        }
        lines = "".join(f"{name}={value}\n" for name, value in settings.items())
        return self.on(unit, f"kcat -F /dev/stdin {action}", lines)

    def gateway(self, identity: str) -> tuple[int, str]:
        python = "/opt/cpq-oms/worker/current/bin/python"
        return self.on("worker", f"{python} -c '{CALL}' {self.address('zeebe')}:26500", identity)


@pytest.fixture
def components(rehearsal: Rehearsal) -> Components:
    return Components(rehearsal)


@pytest.mark.parametrize("unit", STATEMENTS)
def test_a_units_role_does_its_work_and_nothing_else(unit: str, components: Components) -> None:
    own, others = STATEMENTS[unit]

    code, said = components.query(unit, f"cpq_{unit}", f"db_{unit}_password", own)
    assert code == 0, said
    for statement in others:
        code, said = components.query(unit, f"cpq_{unit}", f"db_{unit}_password", statement)
        assert code != 0, statement
        assert "permission denied" in said


@pytest.mark.parametrize("unit", STATEMENTS)
def test_another_units_database_password_is_refused(unit: str, components: Components) -> None:
    other = next(name for name in STATEMENTS if name != unit)

    code, said = components.query(unit, f"cpq_{unit}", f"db_{other}_password", "SELECT 1")

    assert code != 0
    assert "authentication failed" in said


def test_a_redis_user_has_its_own_keys_and_commands(components: Components) -> None:
    allowed = components.redis("api", "api", "redis_api_password", "GET x:t:catalog:1:offering:1")

    assert "OK" in allowed
    assert "NOPERM" not in allowed
    for command in ("GET x:t:session:1", "SET foreign 1", "FLUSHALL", "CONFIG GET maxmemory", "KEYS *"):
        assert "NOPERM" in components.redis("api", "api", "redis_api_password", command), command


@pytest.mark.parametrize(
    ("user", "secret"),
    [("api", "redis_admin_password"), ("admin", "redis_api_password"), ("default", "redis_api_password")],
)
def test_another_redis_users_password_is_refused(user: str, secret: str, components: Components) -> None:
    said = components.redis("api", user, secret, "GET x:t:catalog:1:offering:1")

    assert "WRONGPASS" in said
    assert "NOAUTH" in said


@pytest.mark.parametrize(
    ("unit", "user", "action", "allowed"),
    [
        ("relay", "relay", f"-L -t {TOPIC}", True),
        ("consumer", "consumer", f"-L -t {TOPIC}", True),
        ("consumer", "consumer", f"-P -t {TOPIC} /etc/hostname", False),
        ("relay", "relay", f"-C -e -t {TOPIC}", False),
        ("relay", "relay", "-P -t zeebe /etc/hostname", False),
    ],
)
def test_a_kafka_user_reads_or_writes_what_is_its_own(
    unit: str, user: str, action: str, allowed: bool, components: Components
) -> None:
    code, said = components.kafka(unit, user, f"kafka_{user}_password", action)

    assert ("uthorization failed" in said) is not allowed, said
    assert (code == 0) is allowed, said


def test_another_kafka_users_password_is_refused(components: Components) -> None:
    code, said = components.kafka("relay", "relay", "kafka_consumer_password", "-L -m 10")

    assert code != 0
    assert "uthentication" in said, said


def test_the_engines_gateway_knows_its_clients_by_their_certificates(components: Components) -> None:
    def identity(tier: str, name: str) -> str:
        code, text = components.on(tier, f"cat /etc/cpq-oms/tls/{name}/identity.pem")
        assert code == 0, text
        return text

    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -keyout /dev/stdout -subj /OU=worker/CN=worker@worker-1"
    code, forged = components.on("worker", f"{make} 2>/dev/null")
    assert code == 0, forged

    assert "answered True" in components.gateway(identity("worker", "worker"))[1]
    for given in ("", identity("kafka", "kafka"), forged):
        code, said = components.gateway(given)
        assert code != 0, said
        assert "answered True" not in said


@pytest.mark.parametrize("at", LISTENERS, ids=lambda at: f"{at.tier}-{at.port}")
def test_a_listener_proves_who_it_is_and_speaks_no_old_protocol(at: Listener, components: Components) -> None:
    address = components.address(at.tier)
    ask = f"timeout 10 openssl s_client -connect {address}:{at.port} {at.starting} -CAfile {ROOTS} -verify_ip {address}"

    said = components.on(at.asking, f"{ask} -tls1_2 </dev/null")[1]
    assert "Verify return code: 0 (ok)" in said, said[-800:]
    old = components.on(at.asking, f"{ask} -tls1_1 -cipher DEFAULT@SECLEVEL=0 </dev/null")[1]
    assert "(NONE)" in old, old[-800:]


@pytest.mark.parametrize("at", LISTENERS, ids=lambda at: f"{at.tier}-{at.port}")
def test_a_listener_answers_nobody_without_tls(at: Listener, components: Components) -> None:
    if not at.greeting:
        code, said = components.query("api", "cpq_api", "db_api_password", "SELECT 1", "sslmode=disable")
        assert code != 0, said
        assert "no encryption" in said
        return
    script = (
        "import socket\n"
        f"connection = socket.create_connection(({components.address(at.tier)!r}, {at.port}), 5)\n"
        f"connection.sendall({at.greeting!r})\n"
        "connection.settimeout(3)\n"
        "try:\n    answer = connection.recv(200)\n"
        "except (ConnectionError, TimeoutError):\n    answer = b''\n"
        "print('answer', answer.hex())\n"
    )
    code, said = components.on(at.asking, "python3 -I -", script)
    assert code == 0, said
    answer = bytes.fromhex(said.partition("answer ")[2].strip())

    # Silence, a TLS alert, or the sentence by which some servers refuse plain HTTP.
    assert answer == b"" or answer[0] == 0x15 or b"400 Bad Request" in answer, answer
