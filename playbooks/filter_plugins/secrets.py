"""Values of secrets while one is being rotated: the first line counts now, the second did before or will next (app/contracts/secrets.yml)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def present_secret(value: Any) -> Any:
    """Return the line that counts, of one value or of each in a dictionary."""
    if isinstance(value, Mapping):
        return {name: present_secret(one) for name, one in value.items()}
    lines = str(value).splitlines()
    return lines[0] if lines else ""


def other_secrets(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the other line of those values in a dictionary that are being rotated."""
    lines = {name: str(value).splitlines() for name, value in values.items()}
    return {name: found[1] for name, found in lines.items() if len(found) > 1}


class FilterModule:
    """What Ansible asks for the filters."""

    def filters(self) -> dict[str, Any]:
        """Return them by name."""
        return {"present_secret": present_secret, "other_secrets": other_secrets}
