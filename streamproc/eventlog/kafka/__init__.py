"""The event log on Kafka; the only importer of aiokafka."""

from streamproc.eventlog.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
