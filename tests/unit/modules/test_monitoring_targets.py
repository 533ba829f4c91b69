from __future__ import annotations

from playbooks.filter_plugins.monitoring import monitoring_targets

UNITS = {
    "api": {"metrics_port": 9100},
    "worker": {"instances": {"starter": {"metrics_port": 9110}, "fulfillment": {"metrics_port": 9111}}},
    "admin": {},
    "simulator": {"metrics_port": 9140},
}
GROUPS = {
    "all": ["app-1", "db-1"],
    "api": ["app-1"],
    "worker": ["app-1"],
    "admin": ["app-1"],
    "simulator": ["app-1"],
    "db": ["db-1"],
    "redis": [],
    "kafka": ["db-1"],
    "observability": ["db-1"],
}
HOSTVARS = {
    "app-1": {"ansible_host": "192.0.2.1"},
    "db-1": {"ansible_host": "192.0.2.2", "exporters_postgresql_port": 9999},
}


def test_every_host_service_and_instance_of_an_installed_unit_is_looked_at() -> None:
    found = monitoring_targets(UNITS, GROUPS, HOSTVARS, {"kafka": {"group": "kafka", "port": 9404}}, ["api", "worker"])

    assert found == {
        "host": [
            {"address": "192.0.2.1:9101", "labels": {"host": "app-1", "tier": "admin,api,simulator,worker"}},
            {"address": "192.0.2.2:9101", "labels": {"host": "db-1", "tier": "db,kafka,observability"}},
        ],
        "postgresql": [{"address": "192.0.2.2:9999", "labels": {"host": "db-1"}}],
        "kafka": [{"address": "192.0.2.2:9404", "labels": {"host": "db-1"}}],
        "unit": [
            {"address": "192.0.2.1:9100", "labels": {"host": "app-1", "unit": "api"}},
            {"address": "192.0.2.1:9110", "labels": {"host": "app-1", "unit": "worker@starter"}},
            {"address": "192.0.2.1:9111", "labels": {"host": "app-1", "unit": "worker@fulfillment"}},
        ],
    }
