from __future__ import annotations

import hmac
import json
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from app.runtime.clock import SystemClock
from tests.unit.api.conftest import Client, World

PATH = "/v1/catalog/offerings"
NOW = int(SystemClock().now().timestamp())


async def status(client: Client, **options: Any) -> int:
    return (await client.request("GET", PATH, **options)).status_code


async def test_a_valid_token_lets_in(client: Client) -> None:
    assert await status(client) == 200


@pytest.mark.parametrize("claim", ["exp", "iat", "aud", "iss", "sub", "tenant"])
async def test_a_missing_claim_is_401(client: Client, claim: str) -> None:
    assert await status(client, **{claim: None}) == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 60},
        {"iat": NOW + 600, "exp": NOW + 900},
        {"nbf": NOW + 600},
        {"exp": NOW + 10 * 365 * 86400},
        {"iss": "https://somebody-else.test"},
        {"aud": "another-service"},
        {"aud": ["cpq-oms", "another-service"]},
        {"tenant": "Not A Tenant"},
        {"tenant": ["acme"]},
        {"sub": "a b"},
        {"scope": ["quote:read"]},
    ],
    ids=lambda claims: json.dumps(claims)[:40],
)
async def test_a_wrong_claim_is_401(client: Client, claims: dict[str, Any]) -> None:
    assert await status(client, **claims) == 401


@pytest.mark.parametrize("headers", [{"typ": "id+jwt"}, {"crit": ["exp"]}, {"kid": "unknown"}, {"kid": 7}])
async def test_a_wrong_header_is_401(client: Client, headers: dict[str, Any], world: World) -> None:
    token = world.issuer.token()
    head, rest = token.split(".", 1)
    if "kid" in headers and not isinstance(headers["kid"], str):
        forged = {**jwt.get_unverified_header(token), **headers}
        head = jwt.utils.base64url_encode(json.dumps(forged).encode()).decode()
        token = f"{head}.{rest}"
    else:
        token = world.issuer.token(headers=headers)

    assert await status(client, token=token) == 401


def signed_with_the_public_key(claims: dict[str, Any], key: bytes) -> str:
    """The token that a verifier takes for valid when it lets the token choose the algorithm."""
    parts = [jwt.utils.base64url_encode(json.dumps(each).encode()) for each in ({"alg": "HS256", "kid": "k-1"}, claims)]
    message = b".".join(parts)
    return (message + b"." + jwt.utils.base64url_encode(hmac.digest(key, message, "sha256"))).decode()


async def test_an_algorithm_outside_the_list_is_401(client: Client, world: World) -> None:
    claims = jwt.decode(world.issuer.token(), options={"verify_signature": False})
    public = world.issuer.keys["k-1"].public_key()
    text = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    tokens = [
        jwt.encode(claims, "", algorithm="none", headers={"kid": "k-1"}),
        signed_with_the_public_key(claims, text),
        jwt.encode(claims, ed25519.Ed25519PrivateKey.generate(), algorithm="EdDSA", headers={"kid": "k-1"}),
        jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": "k-1"}),
        "not-a-token",
        "a.b.c",
        "x" * 10_000,
    ]

    assert [await status(client, token=token) for token in tokens] == [401] * len(tokens)


@pytest.mark.parametrize("header", ["", "Bearer", "Basic dXNlcjpwdw==", "Bearer a b"])
async def test_a_malformed_authorization_is_401(client: Client, header: str) -> None:
    answer = await client.request("GET", PATH, token=None, headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_two_authorizations_are_400(client: Client, world: World) -> None:
    both = f"Bearer {world.issuer.token()},Bearer {world.issuer.token()}"

    assert (await client.request("GET", PATH, token=None, headers={"Authorization": both})).status_code == 400


async def test_a_token_in_the_query_is_not_looked_at(client: Client, world: World) -> None:
    answer = await client.request("GET", f"{PATH}?access_token={world.issuer.token()}", token=None)

    assert answer.status_code == 401


async def test_every_refusal_has_the_same_words(client: Client) -> None:
    answers = [
        await client.request("GET", PATH, token=None),
        await client.request("GET", PATH, exp=NOW - 60),
        await client.request("GET", PATH, token="garbage"),
    ]

    assert len({answer.json["detail"] for answer in answers}) == 1


async def test_strangers_cannot_make_the_keys_be_fetched_often(client: Client, world: World) -> None:
    assert await status(client) == 200
    world.clock.advance(timedelta(seconds=11))
    for number in range(50):
        assert await status(client, headers={}, token=world.issuer.token(headers={"kid": f"unknown-{number}"})) == 401

    assert world.issuer.requests == 2
    assert await status(client) == 200


async def test_a_rotated_key_is_taken_up_and_the_old_one_dropped(client: Client, world: World) -> None:
    assert await status(client) == 200
    old = world.issuer.token()
    world.issuer.keys = {"k-2": ec.generate_private_key(ec.SECP256R1())}
    assert await status(client, kid="k-2") == 401  # asked a moment ago
    world.clock.advance(timedelta(seconds=11))

    assert await status(client, kid="k-2") == 200
    assert await status(client, token=old) == 401


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(200, content=b"garbage"),
        httpx.Response(200, json={"keys": []}),
        httpx.Response(200, json={"keys": [{"kty": "nonsense", "kid": "k-1"}]}),
        httpx.Response(200, json=["keys"]),
        httpx.Response(302, headers={"Location": "https://evil.test"}),
    ],
)
async def test_known_keys_survive_an_issuer_that_is_down_or_talks_garbage(
    client: Client, world: World, answer: httpx.Response
) -> None:
    assert await status(client) == 200
    world.issuer.answer = answer
    world.clock.advance(timedelta(hours=1))

    assert await status(client) == 200


async def test_without_any_key_no_token_is_called_invalid(client: Client, world: World) -> None:
    world.issuer.answer = httpx.Response(503)

    assert await status(client) == 503
