"""Card-fraud decisions on Kafka: moves events through a plan exactly once."""
