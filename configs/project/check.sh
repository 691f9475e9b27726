#!/bin/sh
# All that CI checks, and you before you push: the pipeline, its environments, its rule tests, and generated payments.
set -eu
cd "$(dirname "$0")"

for file in environments/*.yaml; do
  env=$(basename "$file" .yaml)
  echo "validate $env"
  streamproc validate pipeline.yaml --env "$env" >/dev/null
done
streamproc test pipeline.yaml --coverage --junit rules.xml
streamproc generate transactions.parquet --account-events account_events.parquet --events 5000
streamproc backtest pipeline.yaml --input transactions.parquet account_events.parquet --output decided.parquet
