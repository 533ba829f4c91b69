"""`make readiness-proof`: every item of readiness.yml is shown, goes red by a sabotage of its own and no other with it, and all are shown again.

What is spoilt is a copy: a bundle, a checkout, the folder of evidence, or what hosts said. An item without a sabotage fails here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from artifact_build.archive import write_tar

from app.application.promotion import RELEASE, ShownItem, attestation_name, suite_name
from app.application.readiness_probes import DASHBOARDS, RULE_TESTS
from tests.support.bundles import members_of
from tests.support.readiness import ENVIRONMENT, ITEMS, World, processes_of, whole_world

STAGING = ("staging", RELEASE)


@dataclass(frozen=True)
class Sabotage:
    """One thing that is made wrong.

    Attributes:
        item: which item of readiness.yml must go red, alone.
        said: part of what is said of it.
        plant: makes it wrong.
    """

    item: str
    said: str
    plant: Callable[[World], None]


def altered_byte(world: World) -> None:
    with (world.bundle / "cpq-oms-api.tar").open("r+b") as archive:
        archive.write(b"\1")


def missing_archive(world: World) -> None:
    (world.bundle / "cpq-oms-worker.tar").unlink()


def archive_of_another_build(world: World) -> None:
    write_tar(world.bundle / "cpq-oms-relay.tar", members_of("relay", version="0.9.0"))
    world.reissue()


def bundle_without_the_unit(world: World) -> None:
    manifest = world.bundle / "manifest.json"
    document = json.loads(manifest.read_text())
    del document["units"]["consumer"]
    manifest.write_text(json.dumps(document))
    world.reissue()


def schema_left_out(world: World) -> None:
    (world.bundle / "contracts/variables/order-fulfillment.v2.schema.json").unlink()
    world.reissue()


def failed_tests(world: World) -> None:
    world.alter(("", suite_name("unit")), lambda tests: replace(tests, failed=1))


def script_left_out(world: World) -> None:
    (world.bundle / "migrations/0026_expand_migration_backfill.rollback.sql").unlink()
    world.reissue()


def topic_gone(world: World) -> None:
    world.looked["live"]["by_command"]["topics diff"]["changes"] = ["create topic oms.order.events.v1"]


def other_content_in_the_engine(world: World) -> None:
    deployed = {**processes_of(world.bundle), "order-fulfillment-v1": ["0" * 64]}
    world.looked["live"]["by_command"]["release live"]["data"]["deployed"] = deployed


def job_type_without_a_worker(world: World) -> None:
    check = world.looked["job-types"]["by_command"]["bpmn check"]
    check["problems"] = ["job type reserve-inventory of order-fulfillment-v1 is served by no worker"]


def key_changed_without_a_word(world: World) -> None:
    change = {"kind": "redis-key", "name": "price_list value_version", "text": "is another", "forward": "compatible"}
    world.looked["plan"]["by_command"]["release plan"]["data"]["changes"] = [change]


def setting_missing(world: World) -> None:
    world.looked["settings"]["msg"] = (
        "inventory: api-1 (api): DB_URL is missing; expected text; give it in app_service.yml"
    )


def rotation_left_off(world: World) -> None:
    world.rotation = "db_api_password"


def old_smoke_test(world: World) -> None:
    def older(evidence: Any) -> Any:
        smoke = evidence.parts["smoke"]
        return replace(evidence, parts={**evidence.parts, "smoke": replace(smoke, at=smoke.at - timedelta(days=15))})

    world.alter(STAGING, older)


def attested_for_another_bundle(world: World) -> None:
    def other(attestation: Any) -> Any:
        return replace(attestation, bundle=replace(attestation.bundle, digest="0" * 64))

    world.alter((ENVIRONMENT, attestation_name("performance-understood")), other)


def panel_of_a_figure_that_is_gone(world: World) -> None:
    path = world.folder / "source" / DASHBOARDS
    path.write_text(path.read_text().replace("cpq_api_requests_in_flight", "cpq_api_requests_under_way"))
    world.commit()


def alert_without_its_test(world: World) -> None:
    path = world.folder / "source" / RULE_TESTS / "api.yml"
    document = yaml.safe_load(path.read_text())
    document["tests"] = [case for case in document["tests"] if case["name"] != "ApiErrors is raised"]
    path.write_text(yaml.safe_dump(document))
    world.commit()


def runbook_of_another_commit(world: World) -> None:
    path = world.bundle / "runbook.md"
    path.write_text(path.read_text().replace("rollback.yml", "back.yml"))
    world.reissue()


def approved_by_nobody(world: World) -> None:
    place = (ENVIRONMENT, attestation_name("business-approval"))
    world.write(place, world.read(place), world.key)


SABOTAGES = (
    Sabotage("api-artifact", "cpq-oms-api.tar: expected SHA-256", altered_byte),
    Sabotage("worker-artifact", "cpq-oms-worker.tar: expected SHA-256", missing_archive),
    Sabotage("relay-artifact", "version: expected 1.0.0+c1", archive_of_another_build),
    Sabotage(
        "consumer-artifact", "expected a deployable with the archive cpq-oms-consumer.tar", bundle_without_the_unit
    ),
    Sabotage("schemas-published", "order-fulfillment.v2.schema.json: processes.yml names it", schema_left_out),
    Sabotage(
        "migrations-tested", "local: tests unit: expected it passed and not expired, found it failed", failed_tests
    ),
    Sabotage("way-back-written", "0026_expand_migration_backfill.rollback.sql: expected it", script_left_out),
    Sabotage("topics-available", "found: create topic oms.order.events.v1", topic_gone),
    Sabotage("bpmn-ready", "order-fulfillment-v1: expected its content", other_content_in_the_engine),
    Sabotage("job-types-served", "job type reserve-inventory", job_type_without_a_worker),
    Sabotage("redis-changes-documented", "price_list: expected it named", key_changed_without_a_word),
    Sabotage("configuration-valid", "DB_URL is missing", setting_missing),
    Sabotage("secrets-available", "the rotation of db_api_password was begun", rotation_left_off),
    Sabotage("staging-smoke", "staging: smoke: expected it passed and not expired, found it expired", old_smoke_test),
    Sabotage("performance-understood", "but it is of another bundle", attested_for_another_bundle),
    Sabotage("dashboards-updated", "nothing shows cpq_api_requests_under_way", panel_of_a_figure_that_is_gone),
    Sabotage("alerts-updated", "expected the test 'ApiErrors is raised'", alert_without_its_test),
    Sabotage("runbook-updated", "runbook.md: expected docs/release.md of the commit", runbook_of_another_commit),
    Sabotage("business-approval", "expected a signature by one of", approved_by_nobody),
)


def gaps(sabotages: Sequence[Sabotage] = SABOTAGES) -> list[str]:
    """What keeps the proof from being one: an item that nobody tries, or a sabotage of none."""
    tried = [sabotage.item for sabotage in sabotages]
    return [f"{name}: expected one sabotage, found {tried.count(name)}" for name in ITEMS if tried.count(name) != 1] + [
        f"{name}: is no item" for name in tried if name not in ITEMS
    ]


def not_green(items: Mapping[str, ShownItem]) -> dict[str, str]:
    """The items that are not shown, by their colour."""
    return {name: item.colour for name, item in items.items() if item.colour != "green"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A release that is ready, and still is when everything was tried on copies of it."""
    world = whole_world(tmp_path_factory.mktemp("whole") / "world")
    assert not_green(world.ask()) == {}, world.said["problems"]
    yield world
    assert not_green(world.ask()) == {}, world.said["problems"]


def test_every_item_has_a_sabotage_of_its_own() -> None:
    assert gaps() == []
    assert len(SABOTAGES) == 19


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_that_nobody_tries_is_refused(item: str) -> None:
    others = [sabotage for sabotage in SABOTAGES if sabotage.item != item]

    assert gaps(others) == [f"{item}: expected one sabotage, found 0"]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.item)
def test_a_sabotage_turns_its_item_red_and_no_other(whole: World, tmp_path: Path, sabotage: Sabotage) -> None:
    spoilt = whole.copied(tmp_path / "spoilt")

    sabotage.plant(spoilt)

    items = spoilt.ask()
    assert not_green(items) == {sabotage.item: "red"}, spoilt.said["problems"]
    assert sabotage.said in items[sabotage.item].detail
    [problem] = spoilt.said["problems"]
    assert problem.startswith(f"{sabotage.item}: red (")
    assert problem.endswith(f"; {ITEMS[sabotage.item].remedy}")
