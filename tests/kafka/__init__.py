"""A real Kafka broker for tests, and the tests that need one."""
