"""Card payments that never happened: a seeded world, its daily traffic, planted frauds and their labels.

    traffic = generate(GeneratorOptions(events=60_000, seed=42))
    records, keys = json_records(traffic)      # what the stream sees, in order of arrival
    write_labels(traffic, Path("labels.parquet"))    # what it must never see

The path: `world` (who there is) -> `legitimate` (what they buy) -> `frauds` (what others do with their cards) ->
`traffic` (one stream in order of event time) -> `records` (JSON, Parquet, NDJSON, labels).
"""

from streamproc.services.generator.options import FRAUD_KINDS, GeneratorOptions
from streamproc.services.generator.records import json_records, write_labels, write_ndjson, write_parquet
from streamproc.services.generator.traffic import Traffic, generate

__all__ = [
    "FRAUD_KINDS",
    "GeneratorOptions",
    "Traffic",
    "generate",
    "json_records",
    "write_labels",
    "write_ndjson",
    "write_parquet",
]
