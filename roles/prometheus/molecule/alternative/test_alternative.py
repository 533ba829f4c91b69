"""An alert comes from a rule to the receiver that was declared, with the environment's label."""

import json
import time

RECEIVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        open("/root/alert.json", "wb").write(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("10.56.3.11", 8099), Handler).serve_forever()
"""


def test_a_silent_service_becomes_an_alert_that_arrives(host):
    host.check_output(f"cat > /root/receiver.py <<'EOF'\n{RECEIVER}\nEOF")
    host.run("systemctl stop receiver; rm -f /root/alert.json")
    host.check_output("systemd-run --unit=receiver --collect python3 /root/receiver.py")
    for _ in range(120):
        if host.file("/root/alert.json").exists:
            break
        time.sleep(1)

    alert = json.loads(host.check_output("cat /root/alert.json"))["alerts"][0]
    host.check_output("systemctl stop receiver")
    assert (
        alert["labels"] | {"alertname": "ServiceDown", "job": "patroni", "environment": "molecule"} == alert["labels"]
    )
    assert alert["annotations"]["summary"] == "patroni on molecule-1 gives no figures"


def test_the_job_is_looked_at_as_declared(host):
    said = json.loads(host.check_output("curl --silent --fail http://10.56.3.11:9290/api/v1/targets"))

    urls = {target["scrapeUrl"] for target in said["data"]["activeTargets"]}
    assert "https://10.56.3.11:8008/figures" in urls
