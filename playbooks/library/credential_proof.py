"""Ansible module: try over HTTP that the former value of a secret is refused and the new one is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import urllib.error
import urllib.parse
import urllib.request

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: credential_proof
short_description: Try that the former value of a secret is refused and the new one is not
options:
  kind:
    description: >-
      V(external_token) is shown as a bearer token, V(client_secret) as a client's at a token endpoint, and V(callback_secret) signs a callback for C(system)
      that has no content.
    choices: [external_token, client_secret, callback_secret]
    required: true
  url: {description: The server's., required: true}
  system: {description: Name of the external system., default: ""}
  former: {description: Value that must be refused., required: true}
  new: {description: Value that must not be., required: true}
attributes:
  check_mode: {support: none}
"""

UNAUTHORIZED = 401
TENANT = "nobody"


def request(kind: str, url: str, system: str, value: str) -> urllib.request.Request:
    """Return a request that shows the value and, where it is right, asks for nothing that exists."""
    if kind == "external_token":
        return urllib.request.Request(  # noqa: S310 - an inventory says where
            f"{url}?idempotencyKey=none", headers={"Authorization": f"Bearer {value}"}
        )
    if kind == "client_secret":
        body = urllib.parse.urlencode({"grant_type": "none"}).encode()
        shown = base64.b64encode(f"proof:{value}".encode()).decode()
        return urllib.request.Request(url, body, {"Authorization": f"Basic {shown}"})  # noqa: S310
    body, stamp = b"{}", int(time.time())
    key = hmac.digest(value.encode(), f"{system}/{TENANT}".encode(), "sha256")
    signature = hmac.new(key, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"Callback-Timestamp": str(stamp), "Callback-Signature": signature, "Content-Type": "application/json"}
    return urllib.request.Request(f"{url}/v1/callbacks/{system}/{TENANT}", body, headers)  # noqa: S310


def is_taken(asked: urllib.request.Request) -> bool:
    """Tell whether the server takes the value, whatever it says to the rest of the request.

    Raises:
        OSError: it does not answer, or cannot.
    """
    # The environment's proxy is for the outside; these are addresses of the platform.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=10):
            return True
    except urllib.error.HTTPError as answer:
        if answer.code >= 500:  # noqa: PLR2004 - HTTP's own
            raise
        return answer.code != UNAUTHORIZED


def main() -> None:
    """Try both."""
    module = AnsibleModule(
        argument_spec={
            "kind": {"required": True, "choices": ["external_token", "client_secret", "callback_secret"]},
            "url": {"required": True},
            "system": {"default": ""},
            "former": {"required": True, "no_log": True},
            "new": {"required": True, "no_log": True},
        }
    )
    given = module.params
    try:
        taken = {
            which: is_taken(request(given["kind"], given["url"], given["system"], given[which]))
            for which in ("former", "new")
        }
    except OSError as error:
        module.fail_json(msg=f"{given['url']}: {error}")
    if taken["former"]:
        module.fail_json(msg=f"{given['url']} still takes the former value")
    if not taken["new"]:
        module.fail_json(msg=f"{given['url']} refuses the new value")
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
