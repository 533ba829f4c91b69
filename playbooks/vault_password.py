#!/usr/bin/env python3
"""Tells ansible-vault the password that an operator put beside the environments' vaults on the control machine, and keeps who asked.

Environments without a vault need none and must work without the file. Ansible takes no empty answer, so they get one that opens
nothing: where a vault does exist, Ansible then says that it cannot be decrypted, and names it.
"""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from playbooks.module_utils import secret_access_log

PASSWORD = Path("/etc/cpq-oms/vault-password")


def main() -> int:
    """Print the password; without a record of it there is none."""
    try:
        answer = PASSWORD.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, PermissionError):
        answer = ""
    if answer:
        asking = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode(errors="replace").split("\0")
        log = secret_access_log.beside(PASSWORD)
        try:
            secret_access_log.record(log, "opened the vaults", command=secret_access_log.without_values(asking[1:-1]))
        except OSError as error:
            sys.stderr.write(f"{log} cannot be written: {error.strerror}; nobody opens a vault unrecorded\n")
            return 1
    sys.stdout.write(answer or f"none, {PASSWORD} is missing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
