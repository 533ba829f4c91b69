"""certificate_authority: what it signs, when a certificate is due, and a change of the root that never strands a host."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.support.ansible_modules import load

ROLE = Path(__file__).parents[3] / "roles/tls_identity"
library: Any = load("certificate_authority", ROLE / "module_utils")
SHARE = 0.33


def an_identity(**changed: Any) -> Any:
    values = {
        "component": "redis",
        "host": "redis-1",
        "environment": "staging",
        "tier": "redis",
        "names": ("redis-1", "198.51.100.7"),
        "usage": "server",
    }
    return library.Identity(**values | changed)


def a_request(key: Any = None, name: str = "redis") -> str:
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
    key = key or ec.generate_private_key(ec.SECP256R1())
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(key, algorithm)
        .public_bytes(library.PEM)
        .decode()
    )


@pytest.fixture
def authority(tmp_path: Path) -> Any:
    return library.Authority(tmp_path / "ca", "staging", 3650)


def trusts(authority: Any, certificate: str) -> bool:
    """Judge as a host does that has the present bundle."""
    for root in x509.load_pem_x509_certificates(authority.bundle().encode()):
        try:
            x509.load_pem_x509_certificate(certificate.encode()).verify_directly_issued_by(root)
        except Exception:  # noqa: BLE001 - another root
            continue
        return True
    return False


def test_certificate_says_what_the_table_says_and_not_what_the_host_asks_for(authority: Any) -> None:
    certificate = x509.load_pem_x509_certificate(
        authority.sign(a_request(name="edge@edge-1"), an_identity(), 90).encode()
    )

    assert certificate.subject.rfc4514_string() == "CN=redis@redis-1,OU=redis,O=staging"
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert authority.why_due(certificate.public_bytes(library.PEM).decode(), an_identity(), SHARE) == ""


def test_request_that_its_key_did_not_sign_or_of_another_kind_is_refused(authority: Any) -> None:
    der = bytearray(x509.load_pem_x509_csr(a_request().encode()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(library.PEM).decode()

    for request in (forged, a_request(ed25519.Ed25519PrivateKey.generate())):
        with pytest.raises(library.AuthorityError, match="redis@redis-1"):
            authority.sign(request, an_identity(), 90)


def test_folder_is_the_owners_alone(authority: Any, tmp_path: Path) -> None:
    authority.state()

    assert oct((tmp_path / "ca").stat().st_mode & 0o777) == "0o700"
    assert oct((tmp_path / "ca/root-1.key").stat().st_mode & 0o777) == "0o600"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"host": "redis-2"}, "another subject"),
        ({"names": ("redis-1",)}, "another names"),
        ({"usage": "both"}, "another usage"),
    ],
)
def test_certificate_of_another_declaration_is_due(authority: Any, changed: dict[str, Any], reason: str) -> None:
    certificate = authority.sign(a_request(), an_identity(), 90)

    assert authority.why_due(certificate, an_identity(**changed), SHARE) == reason


def test_certificate_is_due_when_less_than_its_share_is_left(authority: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = authority.sign(a_request(), an_identity(), 90)
    for days, due in ((59, False), (61, True), (120, True)):
        later = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)

        class Later(dt.datetime):
            @classmethod
            def now(cls, _zone: Any = None, *, _later: dt.datetime = later) -> Any:
                return _later

        with monkeypatch.context() as patch:
            patch.setattr(library.dt, "datetime", Later)
            assert bool(authority.why_due(certificate, an_identity(), SHARE)) is due, days


def test_no_certificate_and_one_of_a_stranger_are_due(authority: Any, tmp_path: Path) -> None:
    stranger = library.Authority(tmp_path / "stranger", "staging", 3650)

    assert authority.why_due("", an_identity(), SHARE) == "there is none"
    assert authority.why_due("rubbish", an_identity(), SHARE) == "it cannot be read"
    assert (
        authority.why_due(stranger.sign(a_request(), an_identity(), 90), an_identity(), SHARE)
        == "another root issued it"
    )


def test_every_certificate_in_use_is_trusted_in_every_phase_of_a_change_of_root(authority: Any) -> None:
    first = authority.sign(a_request(), an_identity(), 90)

    assert authority.advance("adding")
    assert trusts(authority, first)
    assert trusts(authority, authority.sign(a_request(), an_identity(), 90))
    assert authority.why_due(first, an_identity(), SHARE) == ""

    assert authority.advance("reissuing")
    second = authority.sign(a_request(), an_identity(), 90)
    assert trusts(authority, first)
    assert trusts(authority, second)
    assert authority.why_due(first, an_identity(), SHARE) == "another root issued it"

    assert authority.advance("dropping")
    assert not trusts(authority, first)
    assert trusts(authority, second)
    assert authority.advance("")
    assert authority.advance("adding")


def test_certificate_and_roots_are_a_chain_by_their_names_in_every_phase_of_a_change_of_root(authority: Any) -> None:
    """The engine reads its chain and whom it trusts from one file, and starts with nothing else."""
    for phase in ("", "adding", "reissuing", "dropping", "", "adding"):
        authority.advance(phase)
        text = authority.sign(a_request(), an_identity(), 90) + authority.bundle()
        chain = x509.load_pem_x509_certificates(text.encode())

        assert [one.issuer for one in chain[:-1]] == [one.subject for one in chain[1:]], phase
        assert len({one.fingerprint(hashes.SHA256()) for one in chain}) == len(chain)


def test_change_that_was_interrupted_goes_on_and_skips_no_phase(authority: Any, tmp_path: Path) -> None:
    with pytest.raises(library.AuthorityError, match="does not follow"):
        authority.advance("dropping")
    authority.advance("adding")
    bundle = authority.bundle()
    again = library.Authority(tmp_path / "ca", "staging", 3650)

    assert not again.advance("adding")
    assert again.bundle() == bundle
    again.advance("reissuing")
    assert not again.advance("adding")
    assert json.loads((tmp_path / "ca/authority.json").read_text())["phase"] == "reissuing"


def test_rotation_asks_for_certificates_that_are_newer_than_its_beginning(authority: Any) -> None:
    certificate = authority.sign(a_request(), an_identity(), 90)
    state = authority.state()
    assert authority.rotate(begin=True)
    assert not authority.rotate(begin=True)
    began = authority.state()["reissue_before"]
    # As if it had begun a second later than the certificate was issued, which is as fine as certificates tell.
    later = (dt.datetime.fromisoformat(began) + dt.timedelta(seconds=1)).isoformat()
    authority._write("authority.json", json.dumps(state | {"reissue_before": later}))

    assert authority.why_due(certificate, an_identity(), SHARE) == "a rotation asks for a newer one"
    authority._write("authority.json", json.dumps(state | {"reissue_before": began}))
    assert authority.why_due(authority.sign(a_request(), an_identity(), 90), an_identity(), SHARE) == ""
    assert authority.rotate(begin=False)
    assert authority.why_due(certificate, an_identity(), SHARE) == ""
