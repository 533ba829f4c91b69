from tests.support.event_fixtures import kafka, own_epochs, own_outbox, owner_connection, start_unit, tenant

__all__ = ["kafka", "own_epochs", "own_outbox", "owner_connection", "start_unit", "tenant"]
