"""Card payments that never happened: a seeded world, its daily traffic, planted frauds and their labels.

    traffic = generate(GeneratorOptions(events=60_000, seed=42))
    records, keys = json_records(traffic)      # what the stream sees, in order of arrival
    write_account_events(traffic, Path("account_events.parquet"))    # what users do with their accounts
    write_labels(traffic, Path("labels.parquet"))    # what it must never see

The path: `world` (who there is) -> `legitimate` (what they buy) -> `frauds`, `sequences` (what others do with their
cards) -> `account` (what happens to accounts meanwhile) -> `traffic` (one stream in order of event time) ->
`records` (JSON, Parquet, NDJSON, labels).
"""

from streamproc.services.generator.options import FRAUD_KINDS, SEQUENCE_KINDS, GeneratorOptions
from streamproc.services.generator.records import (
    json_records,
    write_account_events,
    write_labels,
    write_ndjson,
    write_parquet,
)
from streamproc.services.generator.traffic import Traffic, generate

__all__ = [
    "FRAUD_KINDS",
    "SEQUENCE_KINDS",
    "GeneratorOptions",
    "Traffic",
    "generate",
    "json_records",
    "write_account_events",
    "write_labels",
    "write_ndjson",
    "write_parquet",
]
