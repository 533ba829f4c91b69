"""Other names, other lifetimes, another place, and a group that no package has made."""

TLS = "/etc/tls-identity"


def text_of(host, *what):
    return host.check_output(f"openssl x509 -noout -in {TLS}/shop/cert.pem {' '.join(what)}")


def test_certificate_has_the_given_names_and_no_others(host):
    names = text_of(host, "-ext", "subjectAltName").splitlines()[1].strip()

    assert names == "DNS:shop-1.internal, DNS:shop.example.com, IP Address:192.0.2.10"
    assert text_of(host, "-subject", "-nameopt", "RFC2253") == "subject=CN=shop@molecule-1,OU=shop,O=other"
    assert "Server Authentication, TLS Web Client Authentication" in text_of(host, "-ext", "extendedKeyUsage")


def test_certificate_and_root_live_as_long_as_declared(host):
    assert host.run(f"openssl x509 -noout -in {TLS}/shop/cert.pem -checkend {7 * 86400}").rc == 0
    assert host.run(f"openssl x509 -noout -in {TLS}/shop/cert.pem -checkend {8 * 86400}").rc == 1
    assert host.run(f"openssl x509 -noout -in {TLS}/ca.pem -checkend {19 * 86400}").rc == 0
    assert host.run(f"openssl x509 -noout -in {TLS}/ca.pem -checkend {20 * 86400}").rc == 1


def test_key_belongs_to_a_group_that_the_role_made(host):
    key = host.file(f"{TLS}/shop/key.pem")

    assert (key.user, key.group, oct(key.mode)) == ("root", "tls-shop", "0o640")
