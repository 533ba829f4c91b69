"""What many hosts say and do comes together on one: every source of figures answers, and an order is followed through journals and spans."""

from __future__ import annotations

import json
import time

from tests.support.rehearsal import Rehearsal

ROOTS = "/etc/cpq-oms/tls/ca.pem"
PATIENCE_SECONDS = 60
# Tiers that work on every order, and say so in their journals.
SAYING = ("api", "worker")
# Units whose spans an order's trace has, by tier.
DOING = {"api": "api", "relay": "relay", "worker": "worker-fulfillment", "consumer": "consumer-order-projection"}


def one_order(rehearsal: Rehearsal) -> str:
    """Let customers order for a moment and return one order that was completed."""
    with rehearsal.customers(rest=1) as told:
        time.sleep(2)
    assert told["unfinished"] == {}
    return str(next(iter(told["orders"].values())))


def tiers_saying(rehearsal: Rehearsal, order: str) -> set[str]:
    """Return the tiers whose hosts' journals, as they arrived on the observability host, name an order."""
    hosts = rehearsal.groups["observability"]
    ask = f"journalctl --merge --output=json --output-fields=_HOSTNAME --since=-15min --grep={order} || true"
    lines = rehearsal.run(hosts[0], ask).stdout.splitlines()
    names = {json.loads(line)["_HOSTNAME"] for line in lines if line.startswith("{")}
    return {tier for tier, members in rehearsal.groups.items() if names & set(members)}


def searched(rehearsal: Rehearsal, text: str) -> str:
    """Search the console as an operator does, who is let in from the operations zone."""
    console = f"https://{rehearsal.hosts[rehearsal.groups['console'][0]]}:8443"
    curl = f"curl --silent --show-error --fail --max-time 30 --cacert {ROOTS}"
    command = (
        "cd $(mktemp -d) && cat > form"
        f" && {curl} --cookie-jar jar --output /dev/null --data @form {console}/login && {curl} --cookie jar '{console}/search?q={text}'"
        "; code=$?; rm -r $PWD; exit $code"
    )
    form = f"operator=tests&password={rehearsal.secret('console_password')}"
    return rehearsal.run(rehearsal.groups["admin"][0], command, standard_input=form).stdout


def test_every_source_of_figures_answers(rehearsal: Rehearsal) -> None:
    ask = "curl -sf 'http://127.0.0.1:9090/api/v1/query?query=up'"

    def silent() -> list[str]:
        told = json.loads(rehearsal.run(rehearsal.groups["observability"][0], ask).stdout)["data"]["result"]
        assert len(told) > len(rehearsal.hosts)
        return [f"{one['metric']['job']} {one['metric']['instance']}" for one in told if one["value"][1] != "1"]

    until = time.monotonic() + PATIENCE_SECONDS
    while found := silent():
        assert time.monotonic() < until, found
        time.sleep(2)


def test_an_order_is_found_in_the_journals_and_spans_of_the_hosts_that_worked_on_it(rehearsal: Rehearsal) -> None:
    order = one_order(rehearsal)

    rehearsal.until(
        lambda: tiers_saying(rehearsal, order) >= set(SAYING), f"{SAYING} say something of {order}", PATIENCE_SECONDS
    )

    def absent() -> set[str]:
        page = searched(rehearsal, order)
        return {
            tier for tier, unit in DOING.items() if not any(f"{host}-{unit}" in page for host in rehearsal.groups[tier])
        }

    rehearsal.until(lambda: not absent(), f"spans of {sorted(DOING)} name {order}", PATIENCE_SECONDS)
