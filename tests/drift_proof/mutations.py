"""Single alterations of a released host, each with the one thing that a comparison must say of it, and how it is taken back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    AlterConfigOp,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)
from kafka.structs import OffsetAndMetadata

from tests.support.released_host import ReleasedHost

Act = Callable[[ReleasedHost], object]
ABSENT = "absent"
ANYTHING = re.compile(".*", re.DOTALL)
FOREIGN_KEY = "staging:acme-telecom:catalog:1:offering:planted"


@dataclass(frozen=True)
class Mutation:
    """One alteration.

    Attributes:
        name: what it is called on the command line.
        plane: the plane in which it must be found.
        item: what must be named.
        expected, found: what the finding must say; a pattern where the host decides the text.
        plant, undo: alter the host, and take it back.
    """

    name: str
    plane: str
    item: str
    expected: str | re.Pattern[str]
    found: str | re.Pattern[str]
    plant: Act
    undo: Act

    def matches(self, finding: Mapping[str, str]) -> bool:
        """Whether a finding is what this alteration must be reported as."""
        return (
            (finding["plane"], finding["item"]) == (self.plane, self.item)
            and _says(self.expected, finding["expected"])
            and _says(self.found, finding["found"])
        )


def _says(wanted: str | re.Pattern[str], said: str) -> bool:
    return wanted == said if isinstance(wanted, str) else wanted.fullmatch(said) is not None


def shell(command: str) -> Act:
    """A command on the host."""
    return lambda host: host.run(command)


def sql(statement: str) -> Act:
    """Statements of the database's superuser, each a transaction."""
    command = "runuser -u postgres -- psql -qAtX -v ON_ERROR_STOP=1 cpq"
    return lambda host: host.run(command, standard_input=statement)


def redis(*words: str, user: str = "admin") -> Act:
    """A command of one of the cache's users."""

    def act(host: ReleasedHost) -> None:
        client = f"REDISCLI_AUTH=$(cat) redis-cli --no-auth-warning -h {host.address} --user {user}"
        answer = host.run(f"{client} {shlex.join(words)}", standard_input=host.secret(f"redis_{user}_password")).stdout
        assert not answer.startswith(("ERR", "NOPERM", "WRONGPASS")), answer

    return act


def foreign(*words: str) -> Act:
    """A command about keys that none of the cache's users may touch: by one that is there for so long."""
    load = redis("ACL", "LOAD", user="operator")

    def act(host: ReleasedHost) -> None:
        host.run("echo 'user planted on nopass ~* +set +del' >> /etc/redis/users.acl")
        try:
            load(host)
            answer = host.run(
                f"redis-cli -h {host.address} --user planted --pass any {shlex.join(words)} 2>/dev/null"
            ).stdout
            assert answer.strip() in {"OK", "1"}, answer
        finally:
            host.run("sed -i '/^user planted /d' /etc/redis/users.acl")
            load(host)

    return act


def kafka(act: Callable[[KafkaAdminClient], object]) -> Act:
    """A request of the brokers' administrator."""

    def connected(host: ReleasedHost) -> None:
        with host.kafka_administrator() as client:
            act(client)

    return connected


def configure(topic: str, **settings: Any) -> Act:
    """Settings of a topic, None for the broker's default."""
    changes = {
        key.replace("_", "."): (AlterConfigOp.DELETE, None) if value is None else value
        for key, value in settings.items()
    }
    return kafka(lambda client: client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, changes)]))


EVENTS = "oms.order.events.v1"
RETENTION = 2592000000
RELAY_READS = ACL(
    principal="User:relay",
    host="*",
    operation=ACLOperation.READ,
    permission_type=ACLPermissionType.ALLOW,
    resource_pattern=ResourcePattern(ResourceType.TOPIC, EVENTS),
)
PROGRAM = "lib/python3.13/site-packages/app/entrypoints/consumer/loop.py"
LOOP = f"/opt/cpq-oms/consumer/current/{PROGRAM}"
SYSTEMD = "/etc/systemd/system"
DROP_IN = f"{SYSTEMD}/cpq-oms-api.service.d/50-cpq-oms.conf"
POSTGRESQL_FILE = "/etc/postgresql/17/cpq/postgresql.conf"
TENANT_WALL = "tenant_id = (SELECT cpq.current_tenant())"
INDEX = "CREATE INDEX dead_letter_by_group ON cpq.dead_letter USING btree (consumer_group, state, failed_at DESC)"
WORKER = """INSERT INTO cpq.worker_registration (instance_id, worker_group, job_types, variables_schema_version, release_id, started_at,
    heartbeat_at, variables_schema_versions) VALUES ('planted {types}', '{group}', '{types}', 2, 'planted', now(), now() + '5 minutes', '{versions}')"""
NO_WORKER = "DELETE FROM cpq.worker_registration WHERE release_id = 'planted'"
PRICE = "UPDATE cpq.product_offering_price SET unit_amount = {} WHERE tenant_id = 'acme-telecom' AND offering_id = 'isdn-legacy'"
OFFERING = "('acme-telecom', 1, 'planted', 'Planted', 'voice', true, 'voice-line')"
CERTIFICATE = (
    "mkdir -p /etc/cpq-oms/tls/planted && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 "
    "-subj /CN=planted -keyout /etc/cpq-oms/tls/planted/key.pem -out /etc/cpq-oms/tls/planted/cert.pem"
)
STATUS = "sed -i '/^Package: sudo$/,/^Status:/ s/ok {}$/ok {}/' /var/lib/dpkg/status"
CHANGED_FILE = re.compile("# altered")

MUTATIONS = (
    Mutation(
        "altered program", "artifacts", "consumer", re.compile("cpq-oms-.* installed"), re.compile(f".* altered: {PROGRAM}"),
        shell(f"cp -a {LOOP} /run/drift-proof && echo '# altered' >> {LOOP}"), shell(f"cp -a /run/drift-proof {LOOP} && rm /run/drift-proof"),
    ),
    Mutation(
        "added file", "artifacts", "relay", re.compile("cpq-oms-.* installed"), re.compile(".* altered: planted"),
        shell("touch /opt/cpq-oms/relay/current/planted"), shell("rm /opt/cpq-oms/relay/current/planted"),
    ),
    Mutation(
        "altered unit file", "unit-files", f"{SYSTEMD}/cpq-oms-migrate.service", ABSENT, CHANGED_FILE,
        shell(f"cp -a {SYSTEMD}/cpq-oms-migrate.service /run/drift-proof-unit && echo '# altered' >> {SYSTEMD}/cpq-oms-migrate.service"),
        shell(f"cp -a /run/drift-proof-unit {SYSTEMD}/cpq-oms-migrate.service && rm /run/drift-proof-unit"),
    ),
    Mutation(
        "open unit file", "unit-files", f"{SYSTEMD}/cpq-oms-migrate.service", re.compile(".*mode 0644.*"), re.compile(".*mode 0666.*"),
        shell(f"chmod 0666 {SYSTEMD}/cpq-oms-migrate.service"), shell(f"chmod 0644 {SYSTEMD}/cpq-oms-migrate.service"),
    ),
    Mutation(
        "other setting", "settings", "/etc/cpq-oms/console.env", 'LOG_LEVEL="INFO"', 'LOG_LEVEL="DEBUG"',
        shell("sed -i s/INFO/DEBUG/ /etc/cpq-oms/console.env"), shell("sed -i s/DEBUG/INFO/ /etc/cpq-oms/console.env"),
    ),
    Mutation(
        "readable credential", "credentials", "/etc/cpq-oms/credentials/worker/db-password", re.compile(".*0600.*"), re.compile(".*0644.*"),
        shell("chmod 0644 /etc/cpq-oms/credentials/worker/db-password"), shell("chmod 0600 /etc/cpq-oms/credentials/worker/db-password"),
    ),
    Mutation(
        "stray credential", "credentials", "/etc/cpq-oms/credentials/relay/stray", ABSENT, "present",
        shell("echo X=1 > /etc/cpq-oms/credentials/relay/stray"), shell("rm /etc/cpq-oms/credentials/relay/stray"),
    ),
    Mutation(
        "drop-in", "units", f"drop-in {DROP_IN}", "no such drop-in", "there",
        shell(f"mkdir {SYSTEMD}/cpq-oms-api.service.d && printf '[Service]\\nNice=1\\n' > {DROP_IN} && systemctl daemon-reload"),
        shell(f"rm -r {SYSTEMD}/cpq-oms-api.service.d && systemctl daemon-reload"),
    ),
    Mutation(
        "disabled service", "units", "redis-server.service", "enabled", "disabled",
        shell("systemctl disable -q redis-server.service"), shell("systemctl enable -q redis-server.service"),
    ),
    Mutation(
        "stopped service", "units", "cpq-oms-console.service", re.compile(".*start.*"), re.compile(".*"),
        shell("systemctl stop cpq-oms-console.service"), shell("systemctl start cpq-oms-console.service"),
    ),
    Mutation(
        "stopped timer", "units", "cpq-oms-reconcile.timer", "started", "stopped",
        shell("systemctl stop cpq-oms-reconcile.timer"), shell("systemctl start cpq-oms-reconcile.timer"),
    ),
    Mutation(
        "failed unit", "units", "cpq-oms-planted.service", "not failed", "failed",
        shell("systemd-run -q --unit=cpq-oms-planted --property=Type=oneshot false || true"), shell("systemctl reset-failed cpq-oms-planted.service"),
    ),
    Mutation(
        "kernel setting", "sysctl", "net.core.somaxconn", "4096", "128",
        shell("sysctl -qw net.core.somaxconn=128"), shell("sysctl -qw net.core.somaxconn=4096"),
    ),
    Mutation(
        "kernel settings at start", "sysctl", "/etc/sysctl.d/50-cpq-oms.conf", "net.core.somaxconn = 4096\n", "net.core.somaxconn = 64\n",
        shell("sed -i s/4096/64/ /etc/sysctl.d/50-cpq-oms.conf"), shell("sed -i s/64/4096/ /etc/sysctl.d/50-cpq-oms.conf"),
    ),
    Mutation(
        "held package", "packages", "curl", "installed", re.compile(".* installed, wanted: hold"),
        shell("apt-mark -qq hold curl"), shell("apt-mark -qq unhold curl"),
    ),
    Mutation(
        "half-installed package", "packages", "sudo", "installed", re.compile(".* half-configured, wanted: install"),
        shell(STATUS.format("installed", "half-configured")), shell(STATUS.format("half-configured", "installed")),
    ),
    Mutation(
        "foreign table", "nftables", "table inet planted", ABSENT, re.compile("table inet planted .*dport 1.*"),
        shell("nft 'add table inet planted; add chain inet planted c; add rule inet planted c tcp dport 1 drop'"),
        shell("nft delete table inet planted"),
    ),
    Mutation(
        "rules where there are no zones", "nftables", "table inet cpq_oms", ABSENT, re.compile("table inet cpq_oms .*"),
        shell("nft add table inet cpq_oms"), shell("nft delete table inet cpq_oms"),
    ),
    Mutation(
        "foreign certificate", "certificates", "planted", ABSENT, re.compile(".*planted.*notAfter=.*"),
        shell(CERTIFICATE), shell("rm -r /etc/cpq-oms/tls"),
    ),
    Mutation(
        "alter system", "postgresql-settings", "ALTER SYSTEM work_mem", ABSENT, "9MB",
        sql("ALTER SYSTEM SET work_mem = '9MB'"), sql("ALTER SYSTEM RESET work_mem"),
    ),
    Mutation(
        "alter database", "postgresql-settings", "ALTER DATABASE cpq jit", ABSENT, "off",
        sql("ALTER DATABASE cpq SET jit = off"), sql("ALTER DATABASE cpq RESET jit"),
    ),
    Mutation(
        "setting in the file", "postgresql-settings", "max_wal_size", "1GB", "2GB",
        shell(f"sed -i '/^max_wal_size/ s/1GB/2GB/' {POSTGRESQL_FILE} && systemctl reload postgresql@17-cpq && sleep 0.5"),
        shell(f"sed -i '/^max_wal_size/ s/2GB/1GB/' {POSTGRESQL_FILE} && systemctl reload postgresql@17-cpq && sleep 0.5"),
    ),
    Mutation(
        "limit of a role", "postgresql-roles", "cpq_api", re.compile("connections 40; .*"), re.compile("connections 39; .*"),
        sql("ALTER ROLE cpq_api CONNECTION LIMIT 39"), sql("ALTER ROLE cpq_api CONNECTION LIMIT 40"),
    ),
    Mutation(
        "setting of a role", "postgresql-roles", "cpq_relay", re.compile(".*statement_timeout=10s"), re.compile(".*statement_timeout=1min"),
        sql("ALTER ROLE cpq_relay SET statement_timeout = '1min'"), sql("ALTER ROLE cpq_relay SET statement_timeout = '10s'"),
    ),
    Mutation(
        "undeclared role", "postgresql-roles", "planted", ABSENT, "connections -1",
        sql("CREATE ROLE planted LOGIN"), sql("DROP ROLE planted"),
    ),
    Mutation(
        "membership", "postgresql-roles", "cpq_observer", re.compile("(?!.*member).*"), re.compile(".*member of pg_read_all_data"),
        sql("GRANT pg_read_all_data TO cpq_observer"), sql("REVOKE pg_read_all_data FROM cpq_observer"),
    ),
    Mutation(
        "grant", "postgresql-grants", "cpq_api: DELETE on table quote", ABSENT, "given",
        sql("GRANT DELETE ON cpq.quote TO cpq_api"), sql("REVOKE DELETE ON cpq.quote FROM cpq_api"),
    ),
    Mutation(
        "revoked grant", "postgresql-grants", "cpq_callback: SELECT on table product_order", "given", ABSENT,
        sql("REVOKE SELECT ON cpq.product_order FROM cpq_callback"), sql("GRANT SELECT ON cpq.product_order TO cpq_callback"),
    ),
    Mutation(
        "column", "postgresql-schema", "column quote.planted", ABSENT, "text",
        sql("ALTER TABLE cpq.quote ADD COLUMN planted text"), sql("ALTER TABLE cpq.quote DROP COLUMN planted"),
    ),
    Mutation(
        "row security", "postgresql-schema", "table quote", re.compile(".*, forced"), "table, owned by cpq_owner, row security",
        sql("ALTER TABLE cpq.quote NO FORCE ROW LEVEL SECURITY"), sql("ALTER TABLE cpq.quote FORCE ROW LEVEL SECURITY"),
    ),
    Mutation(
        "policy", "postgresql-schema", "policy quote.tenant_wall", re.compile(".*USING .tenant_id = .*"), re.compile(".*USING true .*"),
        sql("ALTER POLICY tenant_wall ON cpq.quote USING (true)"), sql(f"ALTER POLICY tenant_wall ON cpq.quote USING ({TENANT_WALL})"),
    ),
    Mutation(
        "function", "postgresql-schema", "function cpq.current_tenant()", re.compile("md5 .*"), re.compile("md5 .*"),
        sql("ALTER FUNCTION cpq.current_tenant() COST 101"), sql("ALTER FUNCTION cpq.current_tenant() COST 100"),
    ),
    Mutation(
        "undeclared index", "postgresql-indexes", "cpq.planted", ABSENT, re.compile("CREATE INDEX planted ON cpq.quote .*"),
        sql("CREATE INDEX planted ON cpq.quote (tenant_id)"), sql("DROP INDEX cpq.planted"),
    ),
    Mutation(
        "missing index", "postgresql-indexes", "cpq.dead_letter_by_group", INDEX, ABSENT,
        sql("DROP INDEX cpq.dead_letter_by_group"), sql(f"SET ROLE cpq_owner; {INDEX}"),
    ),
    Mutation(
        "edited migration", "migrations", "0003_expand_quote", ANYTHING, re.compile("planted.*"),
        sql("UPDATE cpq.migration_ledger SET content_sha256 = 'planted' || content_sha256 WHERE migration = '0003_expand_quote'"),
        sql("UPDATE cpq.migration_ledger SET content_sha256 = replace(content_sha256, 'planted', '') WHERE migration = '0003_expand_quote'"),
    ),
    Mutation(
        "unknown migration", "migrations", "0999_expand_planted", ABSENT, "x",
        sql("INSERT INTO cpq.migration_ledger (migration, content_sha256, release_id) VALUES ('0999_expand_planted', 'x', 'x')"),
        sql("DELETE FROM cpq.migration_ledger WHERE migration = '0999_expand_planted'"),
    ),
    Mutation(
        "retention", "kafka-topics", f"{EVENTS} retention.ms", str(RETENTION), "3600000",
        configure(EVENTS, retention_ms="3600000"), configure(EVENTS, retention_ms=str(RETENTION)),
    ),
    Mutation(
        "setting of a topic", "kafka-topics", f"{EVENTS} segment.ms", ABSENT, "3600000",
        configure(EVENTS, segment_ms="3600000"), configure(EVENTS, segment_ms=None),
    ),
    Mutation(
        "undeclared topic", "kafka-topics", "planted", ABSENT, "there",
        kafka(lambda client: client.create_topics({"planted": {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)),
        kafka(lambda client: client.delete_topics(["planted"])),
    ),
    Mutation(
        "access to a topic", "kafka-access", f"relay: READ on topic {EVENTS}", ABSENT, "given",
        kafka(lambda client: client.create_acls([RELAY_READS])), kafka(lambda client: client.delete_acls([RELAY_READS])),
    ),
    Mutation(
        "undeclared group", "kafka-groups", "planted", ABSENT, "nobody consumes",
        kafka(lambda client: client.alter_group_offsets("planted", {TopicPartition(EVENTS, 0): OffsetAndMetadata(0, "", -1)})),
        kafka(lambda client: client.delete_groups(["planted"])),
    ),
    Mutation(
        "eviction", "redis-policy", "maxmemory-policy", "allkeys-lfu", "noeviction",
        redis("CONFIG", "SET", "maxmemory-policy", "noeviction", user="operator"),
        redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu", user="operator"),
    ),
    Mutation(
        "memory of the cache", "redis-policy", "maxmemory", "134217728", "67108864",
        redis("CONFIG", "SET", "maxmemory", "64mb", user="operator"), redis("CONFIG", "SET", "maxmemory", "128mb", user="operator"),
    ),
    Mutation(
        "user of the cache", "redis-users", "user planted", ABSENT, re.compile(".*[+]@all.*"),
        lambda host: (host.run("echo 'user planted on nopass ~* +@all' >> /etc/redis/users.acl"), redis("ACL", "LOAD", user="operator")(host)),
        lambda host: (host.run("sed -i '/^user planted /d' /etc/redis/users.acl"), redis("ACL", "LOAD", user="operator")(host)),
    ),
    Mutation(
        "key of another environment", "redis-keys", f"key {FOREIGN_KEY}", ABSENT, ANYTHING, foreign("SET", FOREIGN_KEY, "x"), foreign("DEL", FOREIGN_KEY),
    ),
    Mutation(
        "version of a cached value", "redis-keys", "value version of catalog_offering", "2", re.compile("1(, 2)?"),
        redis("SET", "ci:acme-telecom:catalog:1:offering:planted", '{"value_version": 1}'), redis("DEL", "ci:acme-telecom:catalog:1:offering:planted"),
    ),
    Mutation(
        "process content", "bpmn", "order-fulfillment-v2", ANYTHING, re.compile("planted.*"),
        sql("UPDATE cpq.process_deployment SET content_sha256 = 'planted' || content_sha256 WHERE process_id = 'order-fulfillment-v2'"),
        sql("UPDATE cpq.process_deployment SET content_sha256 = replace(content_sha256, 'planted', '') WHERE process_id = 'order-fulfillment-v2'"),
    ),
    Mutation(
        "unknown job type", "job-types", "planted-job", ABSENT, "fulfillment",
        sql(WORKER.format(group="fulfillment", types="{planted-job}", versions="{1,2}")), sql(NO_WORKER),
    ),
    Mutation(
        "variables of a worker", "job-types", "variables of fulfillment", "1, 2", "1 and 1, 2",
        sql(WORKER.format(group="fulfillment", types="{}", versions="{1}")), sql(NO_WORKER),
    ),
    Mutation(
        "flag", "flags", "order-fulfillment-v2", "off", "on",
        sql("UPDATE cpq.feature_flag SET enabled = true WHERE flag = 'order-fulfillment-v2'"),
        sql("UPDATE cpq.feature_flag SET enabled = false WHERE flag = 'order-fulfillment-v2'"),
    ),
    Mutation(
        "unknown flag", "flags", "planted", ABSENT, "on",
        sql("INSERT INTO cpq.feature_flag (flag, enabled, updated_by) VALUES ('planted', true, 'planted')"),
        sql("DELETE FROM cpq.feature_flag WHERE flag = 'planted'"),
    ),
    Mutation(
        "price", "catalog", "acme-telecom version 1 isdn-legacy", re.compile(".*recurring 24 EUR month"), re.compile(".*recurring 23 EUR month"),
        sql(PRICE.format("23")), sql(PRICE.format("24")),
    ),
    Mutation(
        "offering", "catalog", "acme-telecom version 1 planted", ABSENT, re.compile("Planted; .*"),
        sql(f"INSERT INTO cpq.product_offering VALUES {OFFERING}"), sql("DELETE FROM cpq.product_offering WHERE offering_id = 'planted'"),
    ),
)  # fmt: skip
