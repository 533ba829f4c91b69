"""Writes when the trusted roots in a folder and the certificates of its identities end, as figures that the host's exporter shows.

Usage: certificate_expiry.py FOLDER FILE. A file that holds several certificates has one line for each; what cannot be
read has none and is counted, so that an alarm can tell a lost certificate from a sound one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
ENDS = "cpq_certificate_not_after_seconds"
UNREADABLE = "cpq_certificates_unreadable"


def ends(certificate: str) -> tuple[str, float]:
    """Return subject and end of a certificate.

    Raises:
        ValueError: it is none.
    """
    command = ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253", "-enddate", "-dateopt", "iso_8601"]
    done = subprocess.run(command, input=certificate, capture_output=True, text=True, check=False)
    found = re.fullmatch(r"subject=(.*)\nnotAfter=(.*)Z\n", done.stdout)
    if done.returncode or not found:
        raise ValueError(done.stderr)
    return found[1], datetime.fromisoformat(found[2]).replace(tzinfo=UTC).timestamp()


def quoted(value: str) -> str:
    """Return a label's value as the exposition format writes it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def lines(folder: Path) -> Iterator[str]:
    """Yield the page's lines."""
    unreadable = 0
    yield f"# HELP {ENDS} When a certificate of this host ends.\n# TYPE {ENDS} gauge\n"
    for path in sorted([*folder.glob("*.pem"), *folder.glob("[!.]*/cert.pem")]):
        try:
            for number, block in enumerate(CERTIFICATE.findall(path.read_text())):
                subject, at = ends(block)
                yield f'{ENDS}{{file="{quoted(str(path))}",number="{number}",subject="{quoted(subject)}"}} {at:.0f}\n'
        except (OSError, ValueError):
            unreadable += 1
    yield f"# HELP {UNREADABLE} Certificate files that could not be read.\n# TYPE {UNREADABLE} gauge\n"
    yield f"{UNREADABLE} {unreadable}\n"


def main() -> None:
    """Write the page in one step: the exporter may read it at any moment."""
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    new = target.with_suffix(".new")
    new.write_text("".join(lines(folder)))
    new.rename(target)


if __name__ == "__main__":
    main()
