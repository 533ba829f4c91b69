"""Signs a bundle's manifest with the Ed25519 key of the machine that builds, in the format of OpenSSH.

The same manifest and key give the same signature: Ed25519 draws no random number.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from artifact_build.refusal import RefusedError

# What the signature is for, which is signed as well: no other signature of the key can be taken for one of a bundle.
# roles/app_release/module_utils/bundle_verification.py expects this one.
NAMESPACE = "cpq-oms-bundle"


def ensure_key(key: Path) -> None:
    """Make the signing key, readable by its owner alone, and the public key beside it, unless they are there.

    Raises:
        RefusedError: the key cannot be read, or ssh-keygen failed.
    """
    key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not key.exists():
        with tempfile.TemporaryDirectory(prefix=".key-", dir=key.parent) as folder:
            made = Path(folder, "key")
            comment = f"bundles@{platform.node()}"
            _ssh_keygen(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(made)])
            # Where another build was first, that one's key is used.
            with contextlib.suppress(FileExistsError):
                os.link(made, key)
    public = public_key_of(key)
    if not public.exists():
        # By the private key, so that the two belong together whatever was interrupted.
        content = _ssh_keygen(["-y", "-f", str(key)])
        with tempfile.NamedTemporaryFile(prefix=".key-", dir=key.parent, delete=False) as new:
            new.write(content)
        Path(new.name).chmod(0o644)
        Path(new.name).rename(public)


def public_key_of(key: Path) -> Path:
    """Return where the public key of a signing key lies."""
    return key.with_name(f"{key.name}.pub")


def sign(content: bytes, key: Path, namespace: str = NAMESPACE) -> bytes:
    """Return the signature of `content` for what `namespace` names. With a public key the agent of ssh signs.

    Raises:
        RefusedError: the key is missing, is readable by others, or is none.
    """
    return _ssh_keygen(["-q", "-Y", "sign", "-n", namespace, "-f", str(key)], content)


def _ssh_keygen(arguments: Sequence[str], content: bytes = b"") -> bytes:
    try:
        done = subprocess.run(["ssh-keygen", *arguments], input=content, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise RefusedError("ssh-keygen is missing, which signs: install openssh-client") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise RefusedError(f"{arguments[-1]}: ssh-keygen cannot sign with this key: {said}")
    return done.stdout
