"""A release that could not go on says so before its first change, also without the set-up around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.contracts.loader import load_units
from tests.support.bundles import seal, write_bundle
from tests.support.scratch_environment import ANSIBLE, ScratchEnvironment, run

TIERS = ("edge", "db", "kafka", "redis", "zeebe", "observability", *load_units())


@pytest.fixture
def released(scratch: ScratchEnvironment) -> ScratchEnvironment:
    """An inventory with every tier on a host that there is not."""
    groups = "".join(f"    {tier}: {{hosts: {{scratch-1: }}}}\n" for tier in TIERS)
    inventory = "all:\n  hosts:\n    scratch-1: {ansible_host: 10.56.4.11}\n  children:\n" + groups
    (scratch.inventory / "hosts.yml").write_text(inventory)
    return scratch


def release(scratch: ScratchEnvironment, tmp_path: Path, spoil: Callable[[Path], object] = lambda _: None) -> list[str]:
    """Release a bundle with nothing in it, or one that was spoilt; return what is said to that, line by line."""
    bundle = tmp_path / "bundle"
    write_bundle(bundle, load_units())
    spoil(bundle)
    done = run([str(ANSIBLE), "-i", str(scratch.inventory), "release.yml", "-e", f"release_bundle={bundle}"])
    assert done.returncode != 0
    assert "changed=0" in done.stdout
    return done.stdout.splitlines()


def own_variables(scratch: ScratchEnvironment, group: str, old: str, new: str) -> None:
    """Give a group variables of its own, with one altered name."""
    folder = scratch.inventory / "group_vars" / group
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    folder.unlink()
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text.replace(old, new))
    assert new in "".join(path.read_text() for path in folder.iterdir())


def test_unknown_and_misspelt_variables_are_named_with_their_file(released: ScratchEnvironment, tmp_path: Path) -> None:
    own_variables(released, "relay", "app_service_relay:", "unlike_any_other:")
    own_variables(released, "admin", "smoke_tenant:", "smoke_tennant:")

    said = release(released, tmp_path)

    variables = released.inventory / "group_vars"
    assert sorted(line.strip().removeprefix("reason").strip() for line in said if f"{variables}/" in line) == [
        f"{variables}/admin/smoke.yml: smoke_tennant is unknown; is smoke_tenant meant?",
        f"{variables}/relay/app_service.yml: unlike_any_other is unknown; add it to inventories/schema.yml or correct the name",
    ]


def test_a_host_that_cannot_be_reached_is_named_with_the_remedy(released: ScratchEnvironment, tmp_path: Path) -> None:
    said = release(released, tmp_path)

    [reason] = [line for line in said if line.startswith("  reason ")]
    assert reason.endswith("; see that scratch-1 runs and answers by ssh, then give the same command again")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda bundle: (bundle / "contracts/openapi.yml").write_text("openapi: 3.1.1\n"),
            "contracts/openapi.yml: expected SHA-256",
        ),
        (lambda bundle: (bundle / "extra.sql").write_text(""), "extra.sql is not listed in manifest.json"),
        (lambda bundle: (bundle / "uv").unlink(), "uv is missing; manifest.json lists it"),
        (
            lambda bundle: (bundle / "manifest.json.sig").unlink(),
            "manifest.json.sig is missing: the bundle is not signed",
        ),
        (
            lambda bundle: seal(bundle, bundle.parent / "foreign-key"),
            "manifest.json.sig: expected a signature by one of",
        ),
    ],
)
def test_a_bundle_that_is_not_as_it_was_signed_is_refused_before_any_host_hears_of_it(
    released: ScratchEnvironment, tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    [reason] = [line for line in release(released, tmp_path, spoil) if line.startswith("  reason ")]

    assert f"signature: {tmp_path / 'bundle'}: {said}" in reason
