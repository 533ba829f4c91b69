"""Certificates, their root and a secret of every kind change while orders go on: no request fails, and what counted before is dead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.contracts.loader import load_secrets
from tests.support.rehearsal import ORDERS_A_SECOND, Rehearsal

# Every host of an environment has its part, and all of them share the cores of one machine.
pytestmark = pytest.mark.timeout(1800)

DECLARED = load_secrets()
# One secret of each kind that can be rotated.
KINDS = {secret.kind: name for name, secret in DECLARED.secrets.items() if DECLARED.kinds[secret.kind].steps}
LEARN_SECONDS = 1


@contextmanager
def well_informed(rehearsal: Rehearsal) -> Iterator[dict[str, Any]]:
    """Let customers order who hear of new roots as soon as hosts do."""
    is_over = threading.Event()

    def learn() -> None:
        while not is_over.wait(LEARN_SECONDS):
            rehearsal.learn_roots()

    with rehearsal.customers(rate=ORDERS_A_SECOND) as told:
        learner = threading.Thread(target=learn)
        learner.start()
        try:
            yield told
        finally:
            is_over.set()
            learner.join()


def judge(told: dict[str, Any]) -> None:
    """No request failed, and every order was carried out."""
    print(f"{len(told['orders'])} orders")
    assert len(told["orders"]) > 10
    assert (told["failed"], told["gave_up"], told["missing"], told["unfinished"]) == ([], [], [], {})


def serials(rehearsal: Rehearsal) -> dict[str, set[str]]:
    """Return the fingerprints of each host's certificates."""
    # Some hosts have none, for they only ask others.
    ask = "for path in $(ls -d /etc/cpq-oms/tls/*/cert.pem 2>/dev/null); do openssl x509 -in $path -noout -fingerprint; done"
    return {host: set(rehearsal.run(host, ask).stdout.split()) for host in rehearsal.hosts}


def roots(rehearsal: Rehearsal) -> set[str]:
    """Return the roots that hosts trust, each as text."""
    return {rehearsal.run(host, "cat /etc/cpq-oms/tls/ca.pem").stdout for host in rehearsal.hosts}


def test_every_certificate_is_replaced_and_no_request_fails(rehearsal: Rehearsal) -> None:
    before = serials(rehearsal)
    with well_informed(rehearsal) as told:
        rehearsal.play("rotate_certificates")

    after = serials(rehearsal)
    assert [host for host in before if before[host] & after[host]] == []
    judge(told)


def test_the_root_is_replaced_and_no_request_fails(rehearsal: Rehearsal) -> None:
    (before,) = roots(rehearsal)
    with well_informed(rehearsal) as told:
        rehearsal.play("rotate_root")

    (after,) = roots(rehearsal)
    assert after.count("BEGIN CERTIFICATE") == before.count("BEGIN CERTIFICATE") == 1
    assert after != before
    judge(told)


# The playbook itself tries the former value at the end and fails where it is taken.
@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_of_every_kind_changes_and_no_request_fails(rehearsal: Rehearsal, kind: str) -> None:
    name = KINDS[kind]
    former = rehearsal.secret(name)
    with well_informed(rehearsal) as told:
        rehearsal.play("rotate_secret", "-e", f"secret={name}", "-e", "told_elsewhere=true")

    assert rehearsal.secret(name) != former
    assert "\n" not in rehearsal.secret(name)
    judge(told)
