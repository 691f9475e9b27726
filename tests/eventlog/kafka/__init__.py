"""What only Kafka does; the contract's own tests run against it in tests/eventlog."""
