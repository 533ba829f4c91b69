"""Operators' commands as they are installed on a host: each finds all that it needs there, and none ends in a traceback."""

from __future__ import annotations

import shlex
import uuid

from tests.support.released_host import ReleasedHost

READING = (
    "bpmn served", "config list", "dead-letters list", "diagnose", "external status", "fallout list", "flags list",
    "processes route list", "processes status", "projections verify", "reconcile findings", "redis hot-keys",
    "release status", "repair outbox list", "topics diff",
)  # fmt: skip
UNKNOWN = str(uuid.UUID(int=0))
REASON = f"--reason {shlex.quote('a test of what is not there')}"
REFUSED = (
    f"dead-letters discard {UNKNOWN} {REASON}",
    f"dead-letters replay {UNKNOWN} {REASON}",
    f"dead-letters show {UNKNOWN}",
    f"fallout close {UNKNOWN} reserve-inventory {REASON}",
    f"processes retire no-such-process-v1 {REASON}",
    f"repair outbox requeue {UNKNOWN} {REASON}",
    f"repair reaction close {UNKNOWN} {REASON}",
    f"repair reaction retry {UNKNOWN} {REASON}",
    f"repair workflow retry {UNKNOWN} {REASON}",
)


def outcomes(host: ReleasedHost, commands: tuple[str, ...]) -> dict[str, tuple[int, str]]:
    """Exit status and output of each command, all of them in one visit to the host."""
    script = "\n".join(f'cpq-oms-admin {command} 2>&1; printf "\\n=== $?\\n"' for command in commands)
    parts = host.run(script).stdout.split("=== ")
    statuses = [int(part.split(None, 1)[0]) for part in parts[1:]]
    outputs = [parts[0], *(part.partition("\n")[2] for part in parts[1:-1])]
    return {command: (status, output) for command, status, output in zip(commands, statuses, outputs, strict=True)}


def test_every_command_that_only_reads_answers(host: ReleasedHost) -> None:
    found = outcomes(host, READING)

    # 3 is the answer of those that compare, where something differs: orders that tests made up have a projection alone.
    assert {command: result for command, result in found.items() if result[0] not in {0, 3}} == {}


def test_what_is_not_there_is_refused_in_words(host: ReleasedHost) -> None:
    found = outcomes(host, REFUSED)

    assert {command: result for command, result in found.items() if result[0] == 0} == {}
    assert {command: output for command, (_, output) in found.items() if "Traceback" in output} == {}
