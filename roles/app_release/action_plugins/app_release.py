"""Sends a host the artifacts that it lacks, and nothing when it lacks none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[3]))

from roles.app_release.module_utils import bundle_verification

# An artifact as it was sent, unpacked on the way, and installed with its bytecode, which alone is four times its size.
ROOM_FACTOR = 10
MEBIBYTE = 1024**2


class ActionModule(ActionBase):
    """Reads the bundle here, lets the module look there, and installs what the module found due."""

    TRANSFERS_FILES = True
    _VALID_ARGS = frozenset({"bundle", "keep", "python", "root", "signers", "units"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module once to look and, when something is due, once more with the payload in place."""
        super().run(tmp, task_vars)
        options = self._task.args
        bundle = Path(options["bundle"])
        try:
            content, signature = bundle_verification.sealed(bundle)
            manifest = bundle_verification.verified_manifest(content, signature, options["signers"])
            files = {unit: manifest["units"][unit]["file"] for unit in options["units"]}
        except OSError as error:
            raise AnsibleActionFail(f"{bundle} holds no bundle: {error}") from error
        except bundle_verification.UntrustedError as error:
            raise AnsibleActionFail(f"signature: {bundle}: {error}") from error
        except KeyError as error:
            raise AnsibleActionFail(f"{bundle} holds no artifact of unit {error.args[0]}") from error
        # The host does not take our word for it: it holds what it is sent to the same signature.
        arguments = {
            "root": options["root"],
            "manifest": content.decode(),
            "signature": signature.decode(errors="replace"),
            "signers": options["signers"],
            "units": options["units"],
            "python": options["python"],
            "keep": options["keep"],
        }
        look: dict[str, Any] = self._execute_module("app_release", arguments, task_vars=task_vars)
        if look.get("failed") or not look.get("due"):
            return look
        installer = manifest["installer"]
        sizes = {name: about["size"] for name, about in manifest["files"].items()}
        needed = ROOM_FACTOR * sum(sizes[files[unit]] for unit in look["due"]) + sizes[installer]
        if look["free"] < needed:
            host, free = (task_vars or {}).get("inventory_hostname", ""), look["free"] // MEBIBYTE
            message = f"disk full: {host}: {options['root']} has {free} MiB free, this release takes up to "
            message += f"{needed // MEBIBYTE} MiB; free some space there and run again"
            return {"failed": True, "changed": False, "msg": message}
        if self._task.check_mode:
            return look
        for name in (installer, *(files[unit] for unit in look["due"])):
            self._connection.put_file(str(bundle / name), f"{look['incoming']}/{name}")
        installed: dict[str, Any] = self._execute_module(
            "app_release", {**arguments, "sent": True}, task_vars=task_vars
        )
        return installed
