"""What was rehearsed is on record, with the three things in which it differed from the real environment."""

from __future__ import annotations

import json

from tests.support.rehearsal import Rehearsal


def test_the_record_names_hosts_release_and_differences(rehearsal: Rehearsal) -> None:
    record = json.loads((rehearsal.state / "evidence.json").read_text())

    assert record["environment"] == rehearsal.environment
    assert record["hosts"] == rehearsal.hosts
    admin = rehearsal.groups["admin"][0]
    running = rehearsal.run(admin, "basename $(readlink /opt/cpq-oms/admin/current)").stdout.strip()
    assert (record["release"]["release_id"], record["release"]["state"]) == (running, "succeeded")
    assert any(step["step"] == "smoke" and step["state"] == "succeeded" for step in record["steps"])
    assert set(record["differs"]) == {"secrets", "world", "packages"}
    assert "db_api_password" in record["differs"]["secrets"]["generated"]
    assert record["differs"]["secrets"]["signer"].startswith("ssh-ed25519 ")
    assert rehearsal.secret("db_api_password") not in json.dumps(record)
