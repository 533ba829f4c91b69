"""External names are answered for over https, by an authority that the host's programs believe."""

import pytest


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("https://crm.example.com:8443/customers", "the crm"),
        ("https://identity.example.com:8443/cpq-oms/jwks.json", "the keys"),
    ],
)
def test_a_name_leads_to_its_path_of_the_simulator(host, address, answer):
    # No authority is named: the host's own list of them has it.
    assert host.check_output(f"curl --silent --show-error --fail {address}") == answer


def test_a_name_that_nobody_asked_for_has_no_certificate(host):
    assert host.run("curl --silent --resolve other.example.com:8443:127.0.0.1 https://other.example.com:8443/").rc == 60
