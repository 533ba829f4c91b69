#!/usr/bin/python
"""Ansible module: wait for a Kafka broker and make exactly the declared SCRAM users able to log in.

A password is judged by logging in with it, so one that was changed behind our back is found, and nothing is written when
it is right. Whatever the users' passwords are, the broker's own identity on the internal listener can set them: a rotation needs
no old password.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_protocol import (
    ATTEMPT_SECONDS,
    BrokerError,
    Connection,
    LoginRefusedError,
    broker_session,
    compact,
    salted_password,
    uvarint,
)

DOCUMENTATION = r"""
module: kafka_scram_users
short_description: Wait for a broker and hold its SCRAM users to the declared ones
options:
  host:
    description: Address of the broker's client and internal listeners.
    type: dict
    required: true
    suboptions:
      client: {description: Address and port for SCRAM log-ins., type: str, required: true}
      internal: {description: Address and port where the broker's own identity logs in., type: str, required: true}
  broker_password:
    description: Password of the brokers' own identity on the internal listener.
    type: str
    required: true
  ca:
    description: File with the certificates that the broker's own must come from; without it the listeners speak no TLS.
    type: path
  users:
    description: Password of each user by name. A user that is not in it loses its credentials.
    type: dict
    required: true
  next_users:
    description: >-
      Next password of users that are being rotated. A user has its password for SCRAM-SHA-256, and its next one, or the same one again, for
      SCRAM-SHA-512.
    type: dict
    default: {}
  refused:
    description: Former passwords by user, C(broker) for the brokers' own. One that still logs in, by either mechanism, is a failure.
    type: dict
    default: {}
  iterations:
    description: Rounds of the key derivation for passwords that are written.
    type: int
    default: 8192
  timeout:
    description: Seconds to wait until the broker answers.
    type: int
    default: 60
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Wait for the broker and hold its users to the declared ones
  kafka_scram_users:
    host: {client: "10.0.0.1:9092", internal: "10.0.0.1:9094"}
    broker_password: "{{ kafka_broker_password }}"
    users: {admin: "{{ kafka_admin_password }}"}
  no_log: true
"""

RETURN = r"""
set: {description: Users whose credentials were written., returned: always, type: list}
removed: {description: Users whose credentials were deleted., returned: always, type: list}
cluster_id: {description: The cluster that answered; empty in check mode when none does., returned: always, type: str}
"""

DESCRIBE_CLUSTER, DESCRIBE_SCRAM, ALTER_SCRAM = 60, 50, 51
# What the protocol calls a mechanism, by its digest.
SCRAM = {"sha256": 1, "sha512": 2}
RESOURCE_NOT_FOUND = 91
# Not a user of SCRAM: what brokers log in to each other as.
BROKERS = "broker"
RETRY_SECONDS = 0.2


@dataclass(frozen=True)
class Broker:
    """The broker's two doors: its own identity may do anything, users prove only who they are."""

    client: str
    internal: str
    password: str
    ca: str | None

    def _session(self) -> Connection:
        return broker_session(self.internal, self.password, self.ca)

    def cluster_id(self) -> str:
        """Return the cluster's id once the broker is registered and sees itself.

        Raises:
            BrokerError: it answers but is not ready to serve.
        """
        with self._session() as connection:
            response = connection.call(DESCRIBE_CLUSTER, 0, b"\0\0", flexible=True)
            response.int32()
            error, message = response.int16(), response.compact().decode()
            if error:
                raise BrokerError(f"describe cluster: error {error} {message}")
            cluster_id: str = response.compact().decode()
            response.int32()
            if response.uvarint() - 1 < 1:
                raise BrokerError("the cluster has no broker yet")
            return cluster_id

    def accepts(self, user: str, password: str, digest: str) -> bool:
        """Whether a user can log in with a password."""
        with Connection(self.client, self.ca) as connection:
            try:
                connection.login_scram(user, password, digest)
            except LoginRefusedError:
                return False
            return True

    def accepts_broker(self, password: str) -> bool:
        """Whether whoever knows this password passes for a broker."""
        try:
            broker_session(self.internal, password, self.ca).__exit__()
        except LoginRefusedError:
            return False
        return True

    def still_accepted(self, former: Mapping[str, str]) -> list[str]:
        """Name those whose former password still logs in, and how."""
        if BROKERS in former and self.accepts_broker(former[BROKERS]):
            return [BROKERS]
        users = [(user, old) for user, old in former.items() if user != BROKERS]
        return [f"{user} by {digest}" for user, old in users for digest in SCRAM if self.accepts(user, old, digest)]

    def users(self) -> dict[str, list[int]]:
        """Return for each user with SCRAM credentials the mechanisms that it has them for."""
        with self._session() as connection:
            response = connection.call(DESCRIBE_SCRAM, 0, uvarint(0) + b"\0", flexible=True)
            response.int32()
            error, message = response.int16(), response.compact().decode()
            if error:
                raise BrokerError(f"describe users: error {error} {message}")
            found: dict[str, list[int]] = {}
            for _ in range(response.uvarint() - 1):
                mechanisms = found.setdefault(response.compact().decode(), [])
                response.int16()
                response.compact()
                for _ in range(response.uvarint() - 1):
                    mechanisms.append(response.int8())
                    response.int32()
                    response.tags()
                response.tags()
            return found

    def alter(self, write: Mapping[tuple[str, str], str], delete: Mapping[str, list[int]], iterations: int) -> None:
        """Write and delete credentials.

        Args:
            write: password by user and digest.
            delete: mechanisms of users that lose them; one that a user does not have would keep the others.
            iterations: rounds of the key derivation.

        Raises:
            BrokerError: the broker refuses one of them.
        """
        with self._session() as connection:
            # One request for each mechanism: a user may stand in a request only once.
            for digest, mechanism in SCRAM.items():
                losers = [user for user, mechanisms in sorted(delete.items()) if mechanism in mechanisms]
                writers = {user: password for (user, by), password in sorted(write.items()) if by == digest}
                if not losers and not writers:
                    continue
                body = uvarint(len(losers) + 1)
                for user in losers:
                    body += compact(user.encode()) + struct.pack(">b", mechanism) + b"\0"
                body += uvarint(len(writers) + 1)
                for user, password in writers.items():
                    salt = secrets.token_bytes(16)
                    body += compact(user.encode()) + struct.pack(">bi", mechanism, iterations)
                    body += compact(salt) + compact(salted_password(password, salt, iterations, digest)) + b"\0"
                response = connection.call(ALTER_SCRAM, 0, body + b"\0", flexible=True)
                response.int32()
                for _ in range(response.uvarint() - 1):
                    user, error, message = response.compact().decode(), response.int16(), response.compact().decode()
                    response.tags()
                    if error not in {0, RESOURCE_NOT_FOUND}:
                        raise BrokerError(f"user {user}: error {error} {message}")


def wait(broker: Broker, seconds: float) -> str:
    """Wait until the broker serves and return the cluster's id.

    Raises:
        BrokerError: it does not in time; carries the last reason. A refused log-in is tried again too: a node of the cluster may
            not have the new password yet.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return broker.cluster_id()
        except (OSError, BrokerError) as reason:
            if time.monotonic() > deadline:
                raise BrokerError(f"{broker.internal} does not serve after {seconds:.0f} s: {reason}") from reason
        time.sleep(RETRY_SECONDS)


def main() -> None:
    """Wait, compare and write what differs."""
    module = AnsibleModule(
        argument_spec={
            "host": {
                "type": "dict",
                "required": True,
                "options": {"client": {"type": "str", "required": True}, "internal": {"type": "str", "required": True}},
            },
            "broker_password": {"type": "str", "required": True, "no_log": True},
            "ca": {"type": "path"},
            "users": {"type": "dict", "required": True, "no_log": True},
            "next_users": {"type": "dict", "default": {}, "no_log": True},
            "refused": {"type": "dict", "default": {}, "no_log": True},
            "iterations": {"type": "int", "default": 8192},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = module.params
    users: dict[str, str] = parameters["users"]
    wanted = {(user, "sha256"): password for user, password in users.items()}
    wanted |= {(user, "sha512"): parameters["next_users"].get(user, password) for user, password in users.items()}
    host = parameters["host"]
    broker = Broker(host["client"], host["internal"], parameters["broker_password"], parameters["ca"])
    try:
        try:
            # In check mode nothing was started, so there is nothing to wait for.
            cluster_id = wait(broker, 0 if module.check_mode else parameters["timeout"])
        except (OSError, BrokerError):
            if not module.check_mode:
                raise
            module.exit_json(changed=True, set=sorted(users), removed=[], cluster_id="")
        surplus = {user: mechanisms for user, mechanisms in broker.users().items() if user not in users}
        wrong = {key: password for key, password in wanted.items() if not broker.accepts(key[0], password, key[1])}
        if (wrong or surplus) and not module.check_mode:
            broker.alter(wrong, surplus, parameters["iterations"])
            deadline = time.monotonic() + ATTEMPT_SECONDS
            while rejected := [key for key, password in wrong.items() if not broker.accepts(key[0], password, key[1])]:
                if time.monotonic() > deadline:
                    module.fail_json(
                        msg=f"credentials were written, and the broker still refuses: {', '.join(map(' by '.join, rejected))}"
                    )
                time.sleep(RETRY_SECONDS)
        if not module.check_mode and (alive := broker.still_accepted(parameters["refused"])):
            module.fail_json(msg=f"the broker still takes the former password of {', '.join(alive)}")
    except (OSError, BrokerError) as problem:
        module.fail_json(msg=f"Kafka at {broker.internal}: {problem}")
    module.exit_json(
        changed=bool(wrong or surplus),
        set=sorted({user for user, _ in wrong}),
        removed=sorted(surplus),
        cluster_id=cluster_id,
    )


if __name__ == "__main__":
    main()
