"""The event log on Kafka; the only importer of aiokafka."""
