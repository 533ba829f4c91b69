from tests.integration.api.conftest import issuer, start_api
from tests.integration.worker.conftest import engine_proxy, simulator, start_worker
from tests.support.event_fixtures import kafka, start_unit

__all__ = ["engine_proxy", "issuer", "kafka", "simulator", "start_api", "start_unit", "start_worker"]
