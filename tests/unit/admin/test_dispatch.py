"""The folder tree is the command tree, and every command answers in the same form."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from app.contracts.loader import load_external_systems
from app.entrypoints.admin import dispatch
from app.entrypoints.admin.__main__ import main
from app.entrypoints.admin.outcome import Outcome, applied, failed, judged, planned, show
from app.entrypoints.admin.wiring import Session

COMMANDS = Path(dispatch.__file__).parent / "commands"


def test_the_commands_are_the_files() -> None:
    assert ("db", "grants", "apply") in dispatch.command_words()
    assert len(dispatch.command_words()) == len([path for path in COMMANDS.rglob("*.py") if path.name != "__init__.py"])


@pytest.mark.parametrize("words", dispatch.command_words(), ids=" ".join)
def test_every_command_shows_its_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        dispatch.run([*words, "--help"], Session({}, "tests"))

    assert end.value.code == 0
    assert "Usage: cpq-oms-admin" in capsys.readouterr().out


@pytest.mark.usefixtures("capsys")
def test_wrong_usage_exits_with_2() -> None:
    with pytest.raises(SystemExit) as end:
        dispatch.run(["levitate"], Session({}, "tests"))

    assert end.value.code == 2


def test_missing_settings_are_named_all_at_once_and_exit_with_78() -> None:
    outcome = dispatch.run(["migrate", "plan"], Session({"APP_ENV": "tests"}, "tests"))

    assert outcome.exit_code == 78
    assert any(problem.startswith("DB_URL: ") for problem in outcome.problems)
    assert any(problem.startswith("KAFKA_USERNAME: ") for problem in outcome.problems)


@pytest.mark.usefixtures("capsys")
def test_a_repair_without_a_reason_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as end:
        dispatch.run(["repair", "outbox", "requeue", "01a20513-1ff3-766d-95e3-77b0c7ccb3df"], Session({}, "tests"))

    assert end.value.code == 2


def test_a_reason_that_says_nothing_is_refused_before_anything_is_opened() -> None:
    words = ["repair", "outbox", "requeue", "01a20513-1ff3-766d-95e3-77b0c7ccb3df", "--reason", "why not"]

    outcome = dispatch.run(words, Session({}, "tests"))

    assert outcome.exit_code == 1
    assert "a reason of at least 10 characters" in outcome.problems[0]


def test_the_bundle_alone_is_judged_without_settings() -> None:
    outcome = dispatch.run(["bpmn", "check", "--bundle-only"], Session({}, "tests"))

    assert outcome.exit_code == 0
    assert outcome.data["processes"] == ["order-fulfillment-v1", "order-fulfillment-v2"]


def test_a_bundle_is_judged_by_what_it_carries_and_not_by_this_installation(tmp_path: Path) -> None:
    root = COMMANDS.parents[3]
    shutil.copytree(root / "bpmn", tmp_path / "bpmn")
    (tmp_path / "contracts").mkdir()
    for name in ("job_types.yml", "processes.yml"):
        shutil.copy(root / "app/contracts" / name, tmp_path / "contracts")
    words = ["bpmn", "check", "--bundle-only", "--bundle", str(tmp_path)]
    assert dispatch.run(words, Session({}, "tests")).exit_code == 0
    for path in (tmp_path / "bpmn/order-fulfillment-v1.bpmn", tmp_path / "contracts/processes.yml"):
        path.write_text(path.read_text().replace("activate-billing", "levitate-billing", 1))

    outcome = dispatch.run(words, Session({}, "tests"))

    assert list(outcome.problems) == ["job type levitate-billing of order-fulfillment-v1.bpmn is served by no worker"]
    assert dispatch.run(words[:3], Session({}, "tests")).exit_code == 0


@pytest.mark.parametrize(("live", "refused"), [(0, False), (1, True)])
def test_a_way_back_passes_over_a_process_that_no_order_has(live: int, *, refused: bool) -> None:
    process = {
        "process_id": "order-v9",
        "job_types": ["notify"],
        "variables_schema_versions": [1],
        "routes": [],
        "live": live,
    }
    given = {"job_types": [], "reached": [process]}

    assert dispatch.run(["bpmn", "check", "--given"], Session({}, "tests", given)).exit_code == 1
    outcome = dispatch.run(["bpmn", "check", "--given", "--in-use"], Session({}, "tests", given))

    assert (outcome.exit_code == 1) is refused


def test_a_batch_stops_at_the_first_failure() -> None:
    items = [
        {"arguments": ["bpmn", "check", "--bundle-only"]},
        {"arguments": ["migrate", "plan"]},
        {"arguments": ["bpmn", "check", "--bundle-only"]},
    ]

    outcome = dispatch.run(["batch"], Session({}, "tests", items))

    assert [result["exit_code"] for result in outcome.data["results"]] == [0, 78]
    assert outcome.exit_code == 1


def test_json_may_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bpmn", "--json", "check", "--operator", "ana", "--bundle-only"]) == 0
    assert json.loads(capsys.readouterr().out)["exit_code"] == 0


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(planned([]), 0), (planned(["x"]), 3), (applied([]), 0), (applied(["x"]), 0), (failed(["x"]), 1), (judged([]), 0)],
)
def test_exit_codes_tell_success_difference_and_failure(outcome: Outcome, code: int) -> None:
    assert outcome.exit_code == code


def test_only_an_apply_that_did_something_has_changed() -> None:
    assert applied(["x"]).changed
    assert not applied([]).changed
    assert not planned(["x"]).changed


def test_problems_go_to_standard_error() -> None:
    output, errors = io.StringIO(), io.StringIO()

    show(failed(["the reason"]), as_json=False, output=output, errors=errors)

    assert output.getvalue() == ""
    assert errors.getvalue() == "the reason\n"


def test_a_default_of_a_flag_that_nobody_declared_is_refused_by_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    systems = load_external_systems().values()
    tokens = [policy.credential for policy in systems]
    for name in (
        "db-password",
        "db-owner-password",
        "kafka-password",
        "redis-password",
        "smoke-client-secret",
        *tokens,
    ):
        (tmp_path / name).write_text("secret")
    settings = {
        "APP_ENV": "tests",
        "APP_INSTANCE_ID": "admin",
        "TENANT_MODE": "multi",
        "TLS_CA_FILE": "",
        "LOG_LEVEL": "INFO",
        "DB_URL": "postgresql://cpq_admin@db:5432/cpq",
        "DB_OWNER_URL": "postgresql://cpq_owner@db:5432/cpq",
        "DB_STATEMENT_TIMEOUT": "PT30S",
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
        "KAFKA_USERNAME": "admin",
        "REDIS_URL": "redis://admin@redis:6379/0",
        "CAMUNDA_GRPC_ADDRESS": "zeebe:26500",
        "FEATURE_FLAG_DEFAULTS": "order-fulfillment-v2=on",
        "EXTERNAL_ENVIRONMENT": "non-production",
        "SMOKE_API_URL": "http://api",
        "SMOKE_TOKEN_URL": "http://issuer/token",
        "SMOKE_TENANT": "release-proof",
        **{policy.endpoint.setting: "http://there" for policy in systems},
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert main(["--check-config"]) == 0

    monkeypatch.setenv("FEATURE_FLAG_DEFAULTS", "order-fulfillment-v2=on,order-fulfillment-v3=on")
    assert main(["--check-config"]) == 78
    assert "FEATURE_FLAG_DEFAULTS: entry 2: expected one of order-fulfillment-start, " in capsys.readouterr().err
