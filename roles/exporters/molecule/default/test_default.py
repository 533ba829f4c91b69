"""The host tells of itself at its own address only, of its units and certificates, and cannot do more than read."""

import re


def figures(host, port=9101, address="127.0.0.1"):
    return host.check_output(f"curl --silent --fail --max-time 5 http://{address}:{port}/metrics")


def test_units_and_certificates_are_told_of(host):
    page = figures(host)

    assert re.search(
        r'^node_systemd_unit_state\{name="prometheus-node-exporter.service",state="active",.*\} 1$', page, re.MULTILINE
    )
    assert re.search(r"^cpq_certificates_unreadable 0$", page, re.MULTILINE)
    assert re.search(r"^node_memory_MemAvailable_bytes ", page, re.MULTILINE)


def test_a_certificates_end_is_told_and_a_torn_one_is_counted(host):
    host.check_output(
        "mkdir -p /etc/cpq-oms/tls/edge && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 "
        "-subj /CN=edge@molecule-1 -keyout /etc/cpq-oms/tls/edge/key.pem -out /etc/cpq-oms/tls/edge/cert.pem"
    )
    host.check_output(
        "printf -- '-----BEGIN CERTIFICATE-----\\ntorn\\n-----END CERTIFICATE-----\\n' > /etc/cpq-oms/tls/ca.pem"
    )
    host.check_output("systemctl start certificate-expiry.service")

    page = figures(host)
    end = re.search(
        r'^cpq_certificate_not_after_seconds\{.*cert.pem.*subject="CN=edge@molecule-1"\} (\S+)$', page, re.MULTILINE
    )
    now = int(host.check_output("date +%s"))
    assert end is not None
    assert 8 * 86400 < float(end[1]) - now < 10 * 86400
    assert re.search(r"^cpq_certificates_unreadable 1$", page, re.MULTILINE)
    host.check_output("rm -r /etc/cpq-oms/tls && systemctl start certificate-expiry.service")


def test_nobody_else_is_answered(host):
    assert host.run("curl --silent --max-time 2 http://10.56.3.11:9101/metrics").rc != 0


def test_the_unit_is_fenced(host):
    said = host.check_output("systemd-analyze security --no-pager prometheus-node-exporter.service | tail -1")

    assert float(re.search(r": ([\d.]+) ", said)[1]) <= 2.0
