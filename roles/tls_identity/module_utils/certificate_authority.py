"""A small certificate authority: one root that signs the certificates of an environment's hosts, and its change for another root.

Everything it knows is a folder of the control machine, readable by its owner only. Keys of hosts never come here: a host makes its
own and sends a request for a certificate. The root's key is not encrypted: whoever can read the folder can also read the vault's
password beside it, and encryption by that would only hide the first from the second.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import ipaddress
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# A host's clock may be behind the control machine's.
SKEW = dt.timedelta(minutes=5)
USAGES = {
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "both": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
}
# The phases of a root's change, in order. Without a change the phase is empty.
PHASES = ("", "adding", "reissuing", "dropping")


class AuthorityError(Exception):
    """What cannot be done, in one line."""


@dataclass(frozen=True)
class Identity:
    """What a certificate says."""

    component: str
    host: str
    environment: str
    tier: str
    names: tuple[str, ...]
    usage: str

    @property
    def subject(self) -> x509.Name:
        """Return the subject."""
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.environment),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, self.tier),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{self.component}@{self.host}"),
            ]
        )

    @property
    def alternatives(self) -> x509.SubjectAlternativeName:
        """Return the names and addresses by which others reach the component."""
        return x509.SubjectAlternativeName([_general_name(name) for name in dict.fromkeys(self.names)])


class Authority:
    """The roots in a folder. The first look makes the first root."""

    def __init__(self, folder: Path, environment: str, root_days: int) -> None:
        self._folder = folder
        self._environment = environment
        self._root_days = root_days

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def state(self) -> dict[str, Any]:
        """Return which root signs, which are trusted, the phase of a change, and before when certificates are too old."""
        path = self._folder / "authority.json"
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        with self._locked():
            if not path.exists():
                self._make_root(1)
                self._write(
                    "authority.json", json.dumps({"signing": 1, "trusted": [1], "phase": "", "reissue_before": ""})
                )
        return self.state()

    def exists(self) -> bool:
        """Tell whether there is a root already."""
        return (self._folder / "authority.json").exists()

    def bundle(self) -> str:
        """Return the certificates of all trusted roots."""
        return "".join(self._root(number).public_bytes(PEM).decode() for number in self.state()["trusted"])

    def sign(self, request: str, identity: Identity, days: int) -> str:
        """Return a certificate for the key of the request; what it says is the identity's, whatever the request asks for.

        Raises:
            AuthorityError: the request is not signed by its key, or the key is of another kind.
        """
        asked = x509.load_pem_x509_csr(request.encode())
        key = asked.public_key()
        if not asked.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise AuthorityError(
                f"{identity.component}@{identity.host}: the request is not one of an EC key that it holds"
            )
        signing = self.state()["signing"]
        root, now = self._root(signing), dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(identity.subject)
            .issuer_name(root.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(min(now + dt.timedelta(days=days), root.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(USAGES[identity.usage]), critical=False)
            .add_extension(identity.alternatives, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_issuer_identifier(root), critical=False)
            .sign(self._key(signing), hashes.SHA256())
        )
        entry = {
            "at": now.isoformat(timespec="seconds"),
            "identity": f"{identity.component}@{identity.host}",
            "serial": f"{certificate.serial_number:x}",
            "root": signing,
            "not_after": certificate.not_valid_after_utc.isoformat(timespec="seconds"),
        }
        # One line in one write: hosts are served at the same time.
        with (self._folder / "issued.jsonl").open("a", encoding="utf-8") as record:
            record.write(json.dumps(entry) + "\n")
        return certificate.public_bytes(PEM).decode()

    def why_due(self, text: str, identity: Identity, renewal_share: float) -> str:
        """Say why a host's certificate must be replaced, or nothing."""
        if not text:
            return "there is none"
        try:
            certificate = x509.load_pem_x509_certificate(text.encode())
        except ValueError:
            return "it cannot be read"
        state, now = self.state(), dt.datetime.now(dt.UTC)
        try:
            certificate.verify_directly_issued_by(self._root(state["signing"]))
        except (ValueError, TypeError, InvalidSignature):
            return "another root issued it"
        begin, end = certificate.not_valid_before_utc + SKEW, certificate.not_valid_after_utc
        if state["reissue_before"] and begin < dt.datetime.fromisoformat(state["reissue_before"]):
            return "a rotation asks for a newer one"
        if (end - now) < (end - begin) * renewal_share:
            return f"it ends {end:%Y-%m-%d}"
        return _difference(certificate, identity)

    def advance(self, phase: str) -> bool:
        """Enter a phase of the root's change: adding, reissuing, dropping, or '' to end it. Tell whether it was entered now.

        A change that was interrupted is continued: entering a phase that is over or under way does nothing.

        Raises:
            AuthorityError: the phase before it has not been entered.
        """
        with contextlib.ExitStack() as stack:
            # The first root is made under the lock too.
            self.state()
            stack.enter_context(self._locked())
            state = self.state()
            now, wanted = PHASES.index(state["phase"]), PHASES.index(phase)
            if (phase and now >= wanted) or phase == state["phase"]:
                return False
            if wanted != (now + 1) % len(PHASES):
                raise AuthorityError(
                    f"the change of the root is at '{state['phase']}', which {phase or 'its end'} does not follow"
                )
            if phase == "adding":
                number = max(state["trusted"]) + 1
                self._make_root(number)
                state["trusted"].append(number)
            elif phase == "reissuing":
                state["signing"] = max(state["trusted"])
            elif phase == "dropping":
                state["trusted"] = [state["signing"]]
            state["phase"] = phase
            self._write("authority.json", json.dumps(state))
        return True

    def rotate(self, *, begin: bool) -> bool:
        """Declare all present certificates too old, or end that. Tell whether something changed: a rotation under way goes on."""
        self.state()
        with self._locked():
            state = self.state()
            if bool(state["reissue_before"]) == begin:
                return False
            state["reissue_before"] = dt.datetime.now(dt.UTC).isoformat(timespec="seconds") if begin else ""
            self._write("authority.json", json.dumps(state))
        return True

    def _make_root(self, number: int) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        # All roots of an environment have one name. A server that reads its chain and whom it trusts from one file (Zeebe) takes that for a
        # chain, and does not start where an issuer's name is not the next subject: with two roots that differ in name none would.
        subject = self._root(number - 1).subject if number > 1 else self._first_name()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + dt.timedelta(days=self._root_days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._write(f"root-{number}.key", secret.decode())
        self._write(f"root-{number}.pem", certificate.public_bytes(PEM).decode())

    def _first_name(self) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self._environment),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{self._environment} root"),
            ]
        )

    def _root(self, number: int) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self._folder / f"root-{number}.pem").read_bytes())

    def _key(self, number: int) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key((self._folder / f"root-{number}.key").read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthorityError(f"{self._folder}/root-{number}.key is no EC key")
        return key

    def _write(self, name: str, text: str) -> None:
        new = self._folder / f".{name}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        new.rename(self._folder / name)


PEM = serialization.Encoding.PEM


def _difference(certificate: x509.Certificate, identity: Identity) -> str:
    """Name what a certificate says otherwise than its identity."""
    extensions = certificate.extensions
    found: Mapping[str, tuple[Any, Any]] = {
        "subject": (certificate.subject, identity.subject),
        "names": (
            set(extensions.get_extension_for_class(x509.SubjectAlternativeName).value),
            set(identity.alternatives),
        ),
        "usage": (
            list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value),
            USAGES[identity.usage],
        ),
    }
    differing = [name for name, (has, wants) in found.items() if has != wants]
    return f"another {', another '.join(differing)}" if differing else ""


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _issuer_identifier(root: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(**wanted: bool) -> x509.KeyUsage:
    all_of_them: Sequence[str] = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**dict.fromkeys(all_of_them, False) | wanted)
