"""Ansible module: make a host's programs believe a certificate authority, in one visit."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: trusted_authority
short_description: Make a host's programs believe a certificate authority
options:
  authority: {description: File on the host with the authority's certificates in PEM., type: path, required: true}
  path: {description: Where Debian looks for it., type: path, required: true}
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Believe the rehearsal's authority
  trusted_authority:
    authority: /etc/cpq-oms/tls/ca.pem
    path: /usr/local/share/ca-certificates/cpq-oms-rehearsal.crt
"""

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def main() -> None:
    """Copy the authority to where Debian keeps it and add it to the bundle, unless the bundle holds all of it."""
    options = {"authority": {"type": "path", "required": True}, "path": {"type": "path", "required": True}}
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    authority, path = Path(module.params["authority"]), Path(module.params["path"])
    try:
        wanted = authority.read_text()
    except OSError as error:
        if module.check_mode:
            module.exit_json(changed=True)
        module.fail_json(msg=f"{authority} cannot be read ({error.strerror}): the role tls_identity brings it")
    is_copied = path.exists() and path.read_text() == wanted
    certificates = [f"{part}-----END CERTIFICATE-----" for part in wanted.split("-----END CERTIFICATE-----")[:-1]]
    known = BUNDLE.read_text() if BUNDLE.exists() else ""
    is_trusted = all(certificate.strip() in known for certificate in certificates)
    if not (is_copied and is_trusted) and not module.check_mode:
        path.write_text(wanted)
        # What update-ca-certificates would do, and does the next time it runs, in a hundredth of the time.
        if not is_trusted:
            with BUNDLE.open("a") as bundle:
                bundle.write(wanted)
    module.exit_json(changed=not (is_copied and is_trusted))


if __name__ == "__main__":
    main()
