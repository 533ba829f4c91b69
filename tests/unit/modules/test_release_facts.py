from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.ansible_modules import LIBRARY, load

FACTS = load("release_facts")
FILTERS = load("release", LIBRARY.parent / "filter_plugins")


def install(root: Path, unit: str, release_id: str, files: dict[str, str]) -> None:
    release = root / unit / "releases" / release_id
    for name, text in files.items():
        path = release / "lib/python3.13/site-packages/app/contracts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    release.mkdir(parents=True, exist_ok=True)
    (release / "release.json").write_text(json.dumps({"release_id": release_id}))
    (root / unit / "current").symlink_to(release)


CONTRACTS = {"topics/a.yml": "name: a", "events/a.v1.schema.json": "{}", "events/notes.txt": "", "units.yml": "{}"}


def test_contracts_are_those_of_each_installed_release_whichever_unit_has_them(tmp_path: Path) -> None:
    install(tmp_path, "admin", "release-1", CONTRACTS)
    install(tmp_path, "consumer", "release-2", CONTRACTS | {"topics/b.yml": "name: b"})
    install(tmp_path, "simulator", "release-3", {})
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / "current").symlink_to(tmp_path / "nowhere")

    found = FACTS.contracts(tmp_path)

    assert found == {
        "release-1": {"topics": {"a.yml": "name: a"}, "events": {"a.v1.schema.json": "{}"}},
        "release-2": {"topics": {"a.yml": "name: a", "b.yml": "name: b"}, "events": {"a.v1.schema.json": "{}"}},
    }


def test_contracts_of_all_hosts_are_brought_together() -> None:
    hostvars: dict[str, Any] = {
        "api-1": {"facts": {"contracts": {"release-1": {"topics": {}}}}},
        "api-2": {"facts": {"contracts": {"release-2": {"topics": {}}}}},
        "db-1": {},
    }

    found = FILTERS.release_contracts({"all": list(hostvars)}, hostvars, "facts")

    assert sorted(found) == ["release-1", "release-2"]
