"""A member that speaks TLS only and serves those who show a certificate of its authority."""

TLS = "/etc/cpq-oms/tls"
ENDPOINT = "--command-timeout=3s --endpoints=https://10.56.3.11:12379"
TRUST = f"--cacert={TLS}/ca.pem"
PROOF = f"--cert={TLS}/etcd/cert.pem --key={TLS}/etcd/key.pem"


def test_who_shows_a_certificate_is_served(host):
    assert host.run(f"etcdctl {ENDPOINT} {TRUST} {PROOF} put /probe kept").rc == 0


def test_who_shows_none_is_not(host):
    assert host.run(f"etcdctl {ENDPOINT} {TRUST} put /probe kept").rc != 0


def test_without_tls_nobody_is_served(host):
    assert host.run(f"etcdctl {ENDPOINT.replace('https', 'http')} put /probe kept").rc != 0


def test_it_has_the_declared_name_and_quota(host):
    answer = host.check_output(f"etcdctl {ENDPOINT} {TRUST} {PROOF} member list")

    assert ", keeper, https://10.56.3.11:12380, https://10.56.3.11:12379, " in answer
    assert "ETCD_QUOTA_BACKEND_BYTES=67108864" in host.file("/etc/default/etcd").content_string
