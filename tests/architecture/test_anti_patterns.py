"""The anti-patterns of spec 25: each rule holds for the project, and sees it when somebody brings the pattern back."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.application.release_plan.described import Bundle, Described, Live, Surroundings
from app.application.release_plan.planner import plan
from app.contracts.loader import load_job_types, load_redis_keys, load_release_steps
from tests.support.releases import documents

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"
ARTIFACTS: Mapping[str, Any] = yaml.safe_load((APP / "contracts/artifacts.yml").read_text())["artifacts"]
UNITS: Mapping[str, Any] = yaml.safe_load((APP / "contracts/units.yml").read_text())["units"]
SERVICES = {path.name: path.read_text() for path in (ROOT / "systemd").glob("*.service")}
RUNBOOK: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks/release.yml").read_text())


def sources(*folders: str) -> dict[str, str]:
    """Return the Python sources below folders of the application, by path."""
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in folders or (".",)
        for path in sorted((APP / folder).rglob("*.py"))
    }


# 25.1 One artifact does everything


def artifacts_of_several(artifacts: Mapping[str, Any]) -> list[str]:
    """Artifacts that hold another deployable's entry point beside, or in place of, their own."""
    return [
        name
        for name, artifact in artifacts.items()
        if {module for module in artifact["modules"] if module.startswith("app.entrypoints.")}
        != {f"app.entrypoints.{artifact['unit']}"}
    ]


def services_of_several(services: Mapping[str, str]) -> list[str]:
    """Units that start what another deployable brings, or more than one."""
    found = []
    for name, text in services.items():
        started = set(re.findall(r"^Exec\w+=[-+!:@]*/opt/cpq-oms/(\w+)/", text, re.MULTILINE))
        owner = name.removeprefix("cpq-oms-").partition(".")[0].partition("@")[0]
        if started and started != {owner if owner in UNITS else "admin"}:
            found.append(name)
    return sorted(found)


def test_an_artifact_is_one_deployable() -> None:
    assert artifacts_of_several(ARTIFACTS) == []
    assert services_of_several(SERVICES) == []
    assert sorted(artifact["unit"] for artifact in ARTIFACTS.values()) == sorted(UNITS)


def test_an_artifact_that_does_the_work_of_two_is_seen() -> None:
    planted = copy.deepcopy(dict(ARTIFACTS))
    planted["cpq-oms-api"]["modules"].append("app.entrypoints.relay")
    service = SERVICES["cpq-oms-api.service"] + "\nExecStartPost=/opt/cpq-oms/relay/current/bin/cpq-oms-relay\n"

    assert artifacts_of_several(planted) == ["cpq-oms-api"]
    assert services_of_several({**SERVICES, "cpq-oms-api.service": service}) == ["cpq-oms-api.service"]


# 25.2 Environment-specific code


def branches_on_environment(files: Mapping[str, str]) -> list[str]:
    """Sources that compare the name of the environment with something, or choose by it."""

    def is_named(node: ast.AST) -> bool:
        return "app_env" in (text := ast.unparse(node)) or "APP_ENV" in text

    return [
        path
        for path, text in files.items()
        if any(
            (isinstance(node, ast.Compare) and is_named(node))
            or (isinstance(node, ast.Match) and is_named(node.subject))
            for node in ast.walk(ast.parse(text))
        )
    ]


def test_nothing_branches_on_the_name_of_the_environment() -> None:
    assert branches_on_environment(sources()) == []


@pytest.mark.parametrize(
    "text",
    [
        "if settings.app_env == 'production':\n    pass",
        "discount = 0 if app_env in {'prod', 'dr'} else 10",
        "match settings.app_env:\n    case 'prod':\n        pass",
    ],
)
def test_a_branch_on_the_environment_is_seen(text: str) -> None:
    assert branches_on_environment({"planted.py": text}) == ["planted.py"]


# 25.3 Migration on every start


def migrates_at_start(services: Mapping[str, str], artifacts: Mapping[str, Any]) -> list[str]:
    """Units that migrate beside the job that only a release starts, units that draw this job in, and artifacts that could migrate."""
    job = "cpq-oms-migrate.service"
    found = [
        name
        for name, text in services.items()
        if name != job and re.search(r"^Exec\w+=.*\bmigrate\b", text, re.MULTILINE)
    ]
    drawn = rf"^(Wants|Requires|Requisite|BindsTo|Upholds|OnSuccess|OnFailure)=.*\b{re.escape(job)}"
    found += [name for name, text in services.items() if re.search(drawn, text, re.MULTILINE)]
    if "[Install]" in services[job]:
        found.append(job)
    return sorted(found) + [
        name
        for name, artifact in artifacts.items()
        if artifact["unit"] != "admin"
        and (
            "yoyo-migrations" in artifact["distributions"] or any("migrat" in module for module in artifact["modules"])
        )
    ]


def test_no_unit_migrates_when_it_starts() -> None:
    assert migrates_at_start(SERVICES, ARTIFACTS) == []
    (play,) = [play for play in RUNBOOK if "cpq-oms-migrate.service" in yaml.safe_dump(play)]
    assert play["hosts"] == "admin[0]", "a migration is run by one host, once"


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("ExecStartPre=/opt/cpq-oms/api/current/bin/cpq-oms-admin migrate expand", "cpq-oms-api.service"),
        ("Requires=cpq-oms-migrate.service", "cpq-oms-api.service"),
    ],
)
def test_a_unit_that_migrates_is_seen(line: str, seen: str) -> None:
    planted = {**SERVICES, "cpq-oms-api.service": f"{SERVICES['cpq-oms-api.service']}\n{line}\n"}

    assert migrates_at_start(planted, ARTIFACTS) == [seen]


def test_an_artifact_that_could_migrate_is_seen() -> None:
    planted = copy.deepcopy(dict(ARTIFACTS))
    planted["cpq-oms-worker"]["distributions"].append("yoyo-migrations")

    assert migrates_at_start(SERVICES, planted) == ["cpq-oms-worker"]


# 25.4 BPMN and worker out of sync


def unserved(processes: Mapping[str, str], served: Iterable[str]) -> list[str]:
    """Job types that a process emits and no worker serves."""
    emitted = {
        kind for text in processes.values() for kind in re.findall(r'<zeebe:taskDefinition\s+type="([^"]+)"', text)
    }
    return sorted(emitted - set(served))


def deploys_before_workers(runbook: list[dict[str, Any]]) -> bool:
    """Whether processes are deployed before the last play that activates workers."""
    texts = [yaml.safe_dump(play) for play in runbook]
    deploys = [number for number, text in enumerate(texts) if "bpmn', 'deploy'" in text or "- deploy" in text]
    workers = [number for number, play in enumerate(runbook) if play.get("hosts") == "worker"]
    assert deploys, "the runbook deploys no process"
    assert workers, "the runbook activates no worker"
    return min(deploys) < max(workers)


PROCESSES = {path.name: path.read_text() for path in (ROOT / "bpmn").glob("*.bpmn")}
SERVED = {
    name
    for name in load_job_types().job_types
    if (APP / "entrypoints/worker/jobs" / f"{name.replace('-', '_')}.py").is_file()
}


def test_every_job_of_a_process_has_a_worker_that_comes_before_it() -> None:
    assert set(load_job_types().job_types) == SERVED
    assert unserved(PROCESSES, SERVED) == []
    assert not deploys_before_workers(RUNBOOK)


def test_a_process_ahead_of_its_workers_is_seen() -> None:
    planted = PROCESSES | {"planted.bpmn": '<zeebe:taskDefinition type="orbit-satellite" retries="3"/>'}
    deploying = next(
        play for play in RUNBOOK if "bpmn', 'deploy'" in yaml.safe_dump(play) or "- deploy" in yaml.safe_dump(play)
    )

    assert unserved(planted, SERVED) == ["orbit-satellite"]
    assert deploys_before_workers([deploying, *RUNBOOK])


# 25.5 Redis as a hidden database

KEEPING = re.compile(
    r"\+(@all|@write|@list|@hash|@stream|@set\b|hset|lpush|rpush|sadd|xadd|persist|incr|append|setnx|getset)"
)


def scripts(files: Mapping[str, str]) -> dict[str, str]:
    """Return the programs that Redis is given, by file and name."""
    found = {}
    for path, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and "redis.call" in str(node.value.value)
            ):
                found[f"{path}: {ast.unparse(node.targets[0])}"] = str(node.value.value)
    return found


def keeps_for_ever(programs: Mapping[str, str]) -> list[str]:
    """Programs that write something that does not end by itself."""
    return [
        name
        for name, text in programs.items()
        if any("'PX'" not in call for call in re.findall(r"redis\.call\('SET'.*", text))
        or ("'ZADD'" in text and "'PEXPIRE'" not in text)
        or re.search(r"redis\.call\('(HSET|LPUSH|RPUSH|SADD|XADD|PERSIST|INCR|APPEND)", text)
    ]


def users_who_keep(users: Mapping[str, Iterable[str]]) -> list[str]:
    """Users of Redis who may write what does not end by itself."""
    return [name for name, commands in users.items() if any(KEEPING.match(command) for command in commands)]


def test_whatever_redis_holds_ends_and_is_made_again_from_elsewhere() -> None:
    declared = load_redis_keys()
    programs = scripts(sources("adapters/redis"))

    assert programs
    assert keeps_for_ever(programs) == []
    assert users_who_keep({name: user.commands for name, user in declared.users.items()}) == []
    for name, key in declared.keys.items():
        assert key.ttl, name
        assert key.without_redis, name


@pytest.mark.parametrize(
    "program",
    [
        "redis.call('SET', KEYS[1], ARGV[1])",
        "redis.call('ZADD', KEYS[1], 1, ARGV[1])",
        "redis.call('HSET', KEYS[1], 'state', ARGV[1])",
    ],
)
def test_what_redis_would_keep_for_ever_is_seen(program: str) -> None:
    assert keeps_for_ever({"planted": program}) == ["planted"]
    assert users_who_keep({"api": ["+get", "+hset"]}) == ["api"]


# 25.6 Kafka topics made by hand

SETTING = "auto.create.topics.enable"


def makes_topics(files: Mapping[str, str]) -> list[str]:
    """Sources that make topics, or let a broker make one of a misspelt name."""
    makes = {path for path, text in files.items() if "create_topics(" in text}
    lets = {
        path
        for path, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in {"KafkaConsumer", "KafkaProducer"}
        and not any(
            word.arg == "allow_auto_create_topics" and ast.unparse(word.value) == "False" for word in node.keywords
        )
    }
    return sorted(makes | lets)


def lets_brokers_make_topics(files: Mapping[str, str]) -> list[str]:
    """Roles and inventories that do not say no to it, or say yes."""
    return [
        path for path, text in files.items() if re.search(rf"{re.escape(SETTING)}\W+(?!false)\w", text, re.IGNORECASE)
    ]


def test_topics_come_from_their_declaration_alone() -> None:
    texts = {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in ("roles/kafka", "inventories", "playbooks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".yml", ".j2"} and path.is_file() and "molecule" not in path.parts
    }
    template = texts["roles/kafka/templates/etc/kafka/server.properties.j2"]

    assert makes_topics(sources()) == ["app/adapters/kafka/administration.py"]
    assert f'"{SETTING}": "false"' in template
    assert lets_brokers_make_topics(texts) == []


def test_a_topic_that_makes_itself_is_seen() -> None:
    assert makes_topics({"planted.py": "KafkaConsumer('orders', group_id='x')"}) == ["planted.py"]
    assert makes_topics({"planted.py": "client.create_topics([NewTopic('orders', 1, 1)])"}) == ["planted.py"]
    assert lets_brokers_make_topics({"planted.yml": f"kafka_settings: {{{SETTING}: true}}"}) == ["planted.yml"]


# 25.7 Rollback assumed without state analysis

LOOKING = 3
"""Plays of the runbook that only look; the first that acts comes after them."""


BELIEVES = "'way_back_to': release_way_back.former if release_way_back.way | default('') == 'possible' else ''"
"""Only a verdict that was asked, and that allows the way back, reaches the plan, which refuses every other."""


def goes_back_unasked(runbook: list[dict[str, Any]]) -> list[str]:
    """What lets a bundle from before what runs through, although live data was not asked or said no."""
    tasks = [task for play in runbook[:LOOKING] for task in play["tasks"]]

    def asks(words: list[str]) -> int:
        read = [task.get("cpq_admin", {}).get("commands", [{}])[0].get("read", ())[: len(words)] for task in tasks]
        return read.index(words) if words in read else len(tasks)

    def fails(message: str, condition: str) -> int:
        places = [
            place
            for place, task in enumerate(tasks)
            if message in task.get("ansible.builtin.fail", {}).get("msg", "") and condition in str(task["when"])
        ]
        return places[0] if places else len(tasks)

    asked, planned = asks(["release", "verdict"]), asks(["release", "plan"])
    stopped = fails("__release_verdict", "release_way_back.way | default('') != 'possible'")
    refused = fails("__release_plan.msg", "__release_plan.msg | default('') | length > 0")
    found = []
    if not asked < stopped < planned < len(tasks):
        found.append("a rollback goes on without its verdict")
    if not planned < refused < len(tasks):
        found.append("what the plan refuses is done")
    if planned < len(tasks) and BELIEVES not in tasks[planned]["cpq_admin"]["commands"][0]["input"]:
        found.append("the plan believes in a verdict that nobody gave")
    return found


def test_nothing_goes_back_before_live_data_was_asked() -> None:
    assert goes_back_unasked(RUNBOOK) == []
    assert all("plan" in play.get("tags", ()) for play in RUNBOOK[:LOOKING])
    back: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks/rollback.yml").read_text())
    assert back[-1]["import_playbook"] == "release.yml", "it is the runbook of every release"
    earlier, later = (Described(f"cpq-oms-2026.11.29-10{number}", documents()) for number in (1, 2))
    bundle = Bundle(earlier, frozenset(), (), None)
    refused = plan(bundle, Live(), Surroundings(installed=(later,)), load_release_steps()).refusals
    assert [refusal.rule for refusal in refused] == ["rollback-without-verdict"]


def without_task(name: str) -> Callable[[list[dict[str, Any]]], None]:
    def alter(runbook: list[dict[str, Any]]) -> None:
        for play in runbook:
            play["tasks"] = [task for task in play["tasks"] if task["name"] != name]

    return alter


def forged_verdict(runbook: list[dict[str, Any]]) -> None:
    [task] = [task for task in runbook[LOOKING - 1]["tasks"] if task["name"] == "Plan the release"]
    command = task["cpq_admin"]["commands"][0]
    command["input"] = command["input"].replace(BELIEVES, "'way_back_to': release.release_id")


@pytest.mark.parametrize(
    ("alter", "seen"),
    [
        (without_task("Ask live data whether the former release may run again"), "without its verdict"),
        (without_task("Refuse a way back that live data does not allow"), "without its verdict"),
        (without_task("Refuse what breaks the order"), "what the plan refuses"),
        (forged_verdict, "believes in a verdict"),
    ],
)
def test_a_way_back_without_a_verdict_is_seen(alter: Callable[[list[dict[str, Any]]], None], seen: str) -> None:
    planted = copy.deepcopy(RUNBOOK)
    alter(planted)

    assert [found for found in goes_back_unasked(planted) if seen in found] != []
