#!/usr/bin/python
"""Ansible module: hold the login roles and databases of a PostgreSQL server to the declared ones.

A password is compared with the stored SCRAM verifier, so one that was changed behind our back is found and nothing is written
when it is right. What is sent to the server is a verifier made here: no password appears in its log or statistics.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: postgresql_access
short_description: Hold login roles and databases to the declared ones
description:
  - Runs psql as the operating system's user C(postgres) through the local socket.
  - A login role that is not declared loses its log-in; it keeps what it owns.
  - On a standby nothing is written; it is waited until what the primary has been told has come here.
options:
  version: {description: Major version., type: str, required: true}
  port: {description: Port of the server; names the local socket too., type: int, required: true}
  address: {description: Address at which every role must be able to log in with its password., type: str, required: true}
  roles:
    description: Login roles. None of them may make databases or roles, replicate, or pass over row security.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      password: {description: Password., type: str, required: true}
      connection_limit: {description: Highest number of connections; -1 is any., type: int, default: -1}
      settings: {description: Settings of every session of the role., type: dict, default: {}}
      member_of: {description: PostgreSQL's own roles whose rights it has, such as C(pg_monitor)., type: list, elements: str, default: []}
  databases:
    description: Databases; PUBLIC has no privilege on them.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      owner: {description: Owner., type: str, required: true}
      connect: {description: Roles that may connect., type: list, elements: str, required: true}
  replication:
    description: The role by which members of a cluster copy from each other, C(name) and C(password).
    type: dict
  refused: {description: Former passwords by role; one that still logs in is a failure., type: dict, default: {}}
  settings: {description: Settings that must be in force; a differing one counts as waiting for a restart., type: dict, default: {}}
  files:
    description: The server's configuration files. When one is newer than what the server has loaded, it loads them again, so that a
      reload is not lost when a run is killed between the files and it.
    type: list
    elements: path
    default: []
  timeout: {description: Seconds to wait until the server answers., type: int, default: 30}
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Hold roles and databases to the declared ones
  postgresql_access:
    version: "17"
    port: 5432
    address: 10.0.0.1
    roles:
      - {name: app, password: "{{ app_password }}", settings: {statement_timeout: 5s}}
    databases:
      - {name: app, owner: app, connect: [app]}
  no_log: true
"""

RETURN = r"""
statements: {description: What was run, or would be in check mode, without verifiers., returned: always, type: list}
pending_restart: {description: Settings, and a newer version, that wait for a restart., returned: always, type: list}
standby: {description: Whether the server is one., returned: always, type: bool}
"""

SUPERUSER = "postgres"
ITERATIONS = 4096
RETRY_SECONDS = 0.1
ATTRIBUTES = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
REPLICATION = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE REPLICATION NOBYPASSRLS"
# What a former primary reads of the new one before it follows (pg_rewind).
REWIND = (
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
)
REFUSED_LOG_IN = "password authentication failed"
SHOWN = "SCRAM-SHA-256$…"

STATE = """
SELECT json_build_object(
  'roles', (SELECT coalesce(json_object_agg(r.rolname, json_build_object(
      'verifier', a.rolpassword, 'limit', r.rolconnlimit, 'login', r.rolcanlogin,
      'replication', r.rolreplication AND NOT (r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolbypassrls)
               AND has_function_privilege(r.oid, 'pg_read_binary_file(text, bigint, bigint, boolean)', 'EXECUTE'),
      'plain', NOT (r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls)
               AND coalesce(a.rolvaliduntil, 'infinity') = 'infinity',
      'settings', coalesce(s.setconfig, '{}'),
      'member_of', (SELECT coalesce(json_agg(g.rolname), '[]') FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                    WHERE m.member = r.oid))), '{}')
    FROM pg_roles r JOIN pg_authid a ON a.oid = r.oid
    LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase = 0
    WHERE r.rolname !~ '^pg_'),
  'databases', (SELECT coalesce(json_object_agg(d.datname, json_build_object(
      'owner', pg_get_userbyid(d.datdba),
      'public', EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x WHERE x.grantee = 0),
      'connect', (SELECT coalesce(json_agg(pg_get_userbyid(x.grantee)), '[]')
                  FROM aclexplode(d.datacl) x WHERE x.grantee NOT IN (0, d.datdba) AND x.privilege_type = 'CONNECT'))), '{}')
    FROM pg_database d WHERE NOT d.datistemplate),
  'standby', pg_is_in_recovery(),
  'version', current_setting('server_version'),
  'settings', (SELECT json_object_agg(name, setting) FROM pg_settings),
  'loaded_at', (SELECT extract(epoch FROM pg_conf_load_time())),
  'pending_restart', (SELECT coalesce(json_agg(name), '[]') FROM pg_settings WHERE pending_restart),
  'file_errors', (SELECT coalesce(json_agg(problem), '[]') FROM
      (SELECT concat_ws(': ', sourcefile, sourceline, name, error) AS problem FROM pg_file_settings
       WHERE error IS NOT NULL AND error <> 'setting could not be applied' AND error NOT LIKE '%without restarting the server'
       UNION ALL SELECT concat_ws(': ', file_name, line_number, error) FROM pg_hba_file_rules WHERE error IS NOT NULL) e))
"""


# Patroni makes its own roles within seconds.
PLANS = 10


class ServerError(Exception):
    """The server cannot be reached or refuses a statement."""


def verifier(password: str, salt: bytes, iterations: int) -> str:
    """Make what the server stores for a password (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    b64 = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{b64[0]}${b64[1]}:{b64[2]}"


def matches(password: str, stored: str | None) -> bool:
    """Whether a stored verifier is of this password."""
    try:
        mechanism, round_and_salt, _ = (stored or "").split("$")
        iterations, salt = round_and_salt.split(":")
        expected = verifier(password, base64.b64decode(salt), int(iterations))
    except ValueError:
        return False
    return mechanism == "SCRAM-SHA-256" and hmac.compare_digest(expected, stored or "")


def identifier(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Quote a value."""
    return "'" + value.replace("'", "''") + "'"


class Server:
    """Runs psql against one server."""

    def __init__(self, version: str, port: int) -> None:
        self._psql = f"/usr/lib/postgresql/{version}/bin/psql"
        self._port = port

    def run(self, sql: str, database: str = SUPERUSER) -> str:
        """Run statements as the superuser through the local socket, and stop at the first that fails.

        Raises:
            ServerError: with the server's own message.
        """
        command = [self._psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-p", str(self._port), "-d", database]
        return self._run(command, {}, SUPERUSER, sql)

    def installed_version(self) -> str:
        """Return the version of the installed server, as a running one tells its own.

        Raises:
            ServerError: there is none.
        """
        return (
            self._run([str(Path(self._psql).with_name("postgres")), "--version"], {}, None, "")
            .split(maxsplit=2)[2]
            .strip()
        )

    def log_in(self, address: str, role: str, password: str, database: str) -> None:
        """Log in over TCP as a client does.

        Raises:
            ServerError: the role is refused.
        """
        command = [self._psql, "-XqAt", "-h", address, "-p", str(self._port), "-U", role, "-d", database]
        # A file that is gone when this is over: what is in a process's environment can be read in /proc.
        with tempfile.NamedTemporaryFile("w", prefix="postgresql_access.", encoding="utf-8") as known:
            known.write(f"*:*:*:*:{password}\n")
            known.flush()
            self._run(command, {"PGPASSFILE": known.name, "PGCONNECT_TIMEOUT": "5"}, None, "SELECT 1")

    def _run(self, command: Sequence[str], environment: Mapping[str, str], user: str | None, sql: str) -> str:
        variables = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", **environment}
        try:
            done = subprocess.run(
                command,
                input=sql,
                check=False,
                capture_output=True,
                text=True,
                cwd="/",
                env=variables,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        except OSError as missing:
            raise ServerError(f"{command[0]}: {missing.strerror}") from missing
        if done.returncode != 0:
            raise ServerError(done.stderr.strip().splitlines()[0] if done.stderr.strip() else "psql failed")
        return done.stdout

    def state(self) -> dict[str, Any]:
        """Return roles, databases and what is wrong with the configuration files.

        Raises:
            ServerError: the server does not answer.
        """
        state: dict[str, Any] = json.loads(self.run(STATE))
        return state


def role_statements(role: Mapping[str, Any], present: Mapping[str, Any] | None) -> list[str]:
    """Say what makes one role as declared."""
    name = identifier(role["name"])
    statements = []
    if present is None:
        statements.append(f"CREATE ROLE {name}")
    if present is None or not (present["login"] and present["plain"]) or present["limit"] != role["connection_limit"]:
        statements.append(
            f"ALTER ROLE {name} {ATTRIBUTES} CONNECTION LIMIT {role['connection_limit']} VALID UNTIL 'infinity'"
        )
    if present is None or not matches(role["password"], present["verifier"]):
        made = verifier(role["password"], secrets.token_bytes(16), ITERATIONS)
        statements.append(f"ALTER ROLE {name} PASSWORD {literal(made)}")
    now = dict(setting.split("=", 1) for setting in (present or {}).get("settings", []))
    wanted = {key: str(value) for key, value in role["settings"].items()}
    statements += [f"ALTER ROLE {name} RESET {identifier(key)}" for key in sorted(now.keys() - wanted.keys())]
    statements += [
        f"ALTER ROLE {name} SET {identifier(key)} = {literal(value)}"
        for key, value in sorted(wanted.items())
        if now.get(key) != value
    ]
    member, members = set((present or {}).get("member_of", [])), set(role.get("member_of", []))
    statements += [f"REVOKE {identifier(group)} FROM {name}" for group in sorted(member - members)]
    statements += [f"GRANT {identifier(group)} TO {name}" for group in sorted(members - member)]
    return statements


def database_statements(database: Mapping[str, Any], present: Mapping[str, Any] | None) -> list[str]:
    """Say what makes one database as declared; CREATE DATABASE, when needed, is the first."""
    name, owner = identifier(database["name"]), identifier(database["owner"])
    statements = []
    if present is None:
        statements.append(f"CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'")
    elif present["owner"] != database["owner"]:
        statements.append(f"ALTER DATABASE {name} OWNER TO {owner}")
    if present is None or present["public"]:
        statements.append(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    now, wanted = set((present or {}).get("connect", [])), set(database["connect"]) - {database["owner"]}
    statements += [f"REVOKE ALL ON DATABASE {name} FROM {identifier(role)}" for role in sorted(now - wanted)]
    statements += [f"GRANT CONNECT ON DATABASE {name} TO {identifier(role)}" for role in sorted(wanted - now)]
    return statements


def replication_statements(role: Mapping[str, Any], present: Mapping[str, Any] | None) -> list[str]:
    """Say what makes the role by which members copy from each other as declared."""
    name = identifier(role["name"])
    statements = [f"CREATE ROLE {name}"] if present is None else []
    if present is None or not (present["login"] and present["replication"]):
        statements.append(f"ALTER ROLE {name} {REPLICATION}")
        statements += [f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {name}" for function in REWIND]
    if present is None or not matches(role["password"], present["verifier"]):
        made = verifier(role["password"], secrets.token_bytes(16), ITERATIONS)
        statements.append(f"ALTER ROLE {name} PASSWORD {literal(made)}")
    return statements


def plan(
    roles: Sequence[Mapping[str, Any]],
    databases: Sequence[Mapping[str, Any]],
    state: Mapping[str, Any],
    replication: Mapping[str, Any] | None = None,
) -> list[str]:
    """Say everything that makes the server as declared, in an order that works."""
    statements = [sql for role in roles for sql in role_statements(role, state["roles"].get(role["name"]))]
    declared = {role["name"] for role in roles} | {SUPERUSER}
    if replication:
        statements += replication_statements(replication, state["roles"].get(replication["name"]))
        declared.add(replication["name"])
    statements += [
        f"ALTER ROLE {identifier(name)} NOLOGIN"
        for name, present in sorted(state["roles"].items())
        if present["login"] and name not in declared
    ]
    for database in databases:
        statements += database_statements(database, state["databases"].get(database["name"]))
    return statements


def wait(server: Server, seconds: float) -> dict[str, Any]:
    """Return the server's state as soon as it answers.

    Raises:
        ServerError: it does not in time; carries the last reason.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return server.state()
        except ServerError:
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)


def is_newer(path: str, loaded_at: float) -> bool:
    """Whether a file was written since the server has loaded its configuration, in seconds since the epoch."""
    return Path(path).exists() and Path(path).stat().st_mtime > loaded_at


def reload(server: Server, loaded_at: float, seconds: float) -> dict[str, Any]:
    """Let the server load its files and return its state after that.

    Raises:
        ServerError: it has not done so in time.
    """
    server.run("SELECT pg_reload_conf()")
    deadline = time.monotonic() + seconds
    while (state := server.state())["loaded_at"] <= loaded_at:
        if time.monotonic() > deadline:
            raise ServerError("the configuration is not loaded again; its log says why")
        time.sleep(RETRY_SECONDS)
    return state


def prove_log_ins(
    server: Server,
    address: str,
    roles: Sequence[Mapping[str, Any]],
    databases: Sequence[Mapping[str, Any]],
    seconds: float,
) -> None:
    """Log in as every role on every database that it may use; within so many seconds, where roles come from a primary.

    Raises:
        ServerError: the address, the access rules or a password keep one out.
    """
    deadline = time.monotonic() + seconds
    users = [(database["name"], {database["owner"], *database["connect"]}) for database in databases]
    for database, role in [(name, role) for name, allowed in users for role in roles if role["name"] in allowed]:
        while True:
            try:
                server.log_in(address, role["name"], role["password"], database)
                break
            except ServerError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(RETRY_SECONDS)


def prove_refusals(
    server: Server, address: str, refused: Mapping[str, str], databases: Sequence[Mapping[str, Any]]
) -> None:
    """Log in with former passwords.

    Raises:
        ServerError: one of them is still taken, or is refused for another reason than being wrong.
    """
    for role, password in refused.items():
        database = next(one["name"] for one in databases if role in {one["owner"], *one["connect"]})
        try:
            server.log_in(address, role, password, database)
        except ServerError as answer:
            if REFUSED_LOG_IN not in str(answer):
                raise
        else:
            raise ServerError(f"{role} still logs in with its former password")


def pending(server: Server, settings: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Name what waits for a restart: settings in the files or declared ones that are not in force, and a newer version."""
    waiting = [*state["pending_restart"]]
    waiting += [name for name, value in settings.items() if state["settings"].get(name) != str(value)]
    return waiting + (["version"] if server.installed_version() != state["version"] else [])


def hidden(statement: str) -> str:
    """Return a statement as a person may see it."""
    head, separator, _ = statement.partition(" PASSWORD ")
    return f"{head}{separator}'{SHOWN}'" if separator else statement


def carry_out(
    server: Server, state: dict[str, Any], timeout: int, planned: Callable[[dict[str, Any]], list[str]]
) -> list[str]:
    """Run what is planned and return it; plan anew where Patroni made or changed a role meanwhile, as it does when it begins to lead."""
    done: list[str] = []
    for attempts_left in reversed(range(PLANS)):
        try:
            for statement in planned(state):
                server.run(statement)
                done.append(statement)
        except ServerError as problem:
            if not attempts_left or not any(
                sign in str(problem) for sign in ("already exists", "concurrently updated")
            ):
                raise
            time.sleep(1)
            state = wait(server, timeout)
        else:
            break
    return done


def main() -> None:
    """Compare, and run what is missing."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "address": {"type": "str", "required": True},
            "roles": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "connection_limit": {"type": "int", "default": -1},
                    "settings": {"type": "dict", "default": {}},
                    "member_of": {"type": "list", "elements": "str", "default": []},
                },
            },
            "databases": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "owner": {"type": "str", "required": True},
                    "connect": {"type": "list", "elements": "str", "required": True},
                },
            },
            "replication": {
                "type": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                },
            },
            "refused": {"type": "dict", "default": {}, "no_log": True},
            "settings": {"type": "dict", "default": {}},
            "files": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    roles, databases = parameters["roles"], parameters["databases"]
    server = Server(parameters["version"], parameters["port"])
    empty: dict[str, Any] = {"roles": {}, "databases": {}, "loaded_at": 0, "standby": False, "file_errors": []}
    waiting: list[str] = []
    try:
        try:
            # In check mode nothing was started, so there is nothing to wait for.
            state = wait(server, 0 if module.check_mode else parameters["timeout"])
        except ServerError:
            if not module.check_mode:
                raise
            state = empty
        stale = [path for path in parameters["files"] if state is not empty and is_newer(path, state["loaded_at"])]
        if stale and not module.check_mode:
            state = reload(server, state["loaded_at"], parameters["timeout"])
        if state["file_errors"]:
            module.fail_json(msg=f"the server rejects its configuration: {'; '.join(state['file_errors'])}")
        if state is not empty:
            waiting = pending(server, parameters["settings"], state)

        def planned(found: dict[str, Any]) -> list[str]:
            return [] if found["standby"] else plan(roles, databases, found, parameters["replication"])

        statements = planned(state)
        if not module.check_mode:
            statements = carry_out(server, state, parameters["timeout"], planned)
            # A server that waits for a restart may not listen where it should; the caller restarts it and asks again.
            if not waiting:
                patience = parameters["timeout"] if state["standby"] else 0
                prove_log_ins(server, parameters["address"], roles, databases, patience)
                prove_refusals(server, parameters["address"], parameters["refused"], databases)
    except ServerError as problem:
        module.fail_json(msg=f"PostgreSQL on port {parameters['port']}: {problem}")
    shown = [hidden(statement) for statement in statements]
    module.exit_json(
        changed=bool(statements or stale),
        statements=shown,
        pending_restart=waiting,
        standby=state["standby"],
        diff={
            "before": "",
            "after": "".join([*(f"load {path}\n" for path in stale), *(f"{statement};\n" for statement in shown)]),
        },
    )


if __name__ == "__main__":
    main()
