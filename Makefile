# Every target CI uses is here, so that what passes here passes there.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
# Tests and benchmarks import onnxruntime themselves: it must not report them to its maker.
export ORT_DISABLE_TELEMETRY := 1

PYTHON ?= python3
BIN := .venv/bin
UV ?= uv
WORKERS ?= 2
SOAK_MINUTES ?= 60
KAFKA_PORT ?= 9092
KAFKA_DATA ?= .kafka/data
PACKAGES := streamproc operators models state tests $(wildcard benchmarks)
SETUP_STAMP := .venv/.setup-stamp
KAFKA_STAMP := .kafka/lib/.stamp
FLINK_STAMP := .flink/lib/.stamp

.NOTPARALLEL:
.PHONY: help setup demo test lint unit fmt kafka kafka-jars flink-jars soak ablations bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(SETUP_STAMP) ## make .venv with everything pinned in requirements.lock

$(SETUP_STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; try: make setup PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python cannot make a virtual environment; try: apt-get install python3-venv"; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@# machine code, once: else the first start of a worker would take as long
	$(BIN)/python -c 'from streamproc.cli.common import load_stages; from streamproc.cli.compose import build_engine; \
	  [build_engine(plan, bytes(32))[0].prepare() for plan in load_stages("configs/card_fraud/pipeline.yaml")]'
	@command -v chromium-headless-shell chromium google-chrome >/dev/null \
	  || echo "No browser: tests of reports' pages will be skipped; try: apt-get install chromium-headless-shell"
	@touch $@

demo: setup ## run the demo: no broker, no Docker
	$(BIN)/streamproc demo

test: setup lint unit ## everything CI runs: style, types, arrows, all tests

lint: setup ## ruff, mypy and the import arrows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports

unit: setup kafka-jars ## pytest alone, those that need a broker too
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m 'not soak'

fmt: setup ## format, and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

kafka-jars: $(KAFKA_STAMP) ## download Kafka's jars into .kafka/lib (needs JDK 17 and Maven)

$(KAFKA_STAMP): tests/kafka/pom.xml
	@command -v java >/dev/null || { echo "java is missing; try: apt-get install openjdk-17-jre-headless"; exit 1; }
	@command -v mvn >/dev/null || { echo "mvn is missing; try: apt-get install maven"; exit 1; }
	@rm -rf .kafka/lib
	mvn -q -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.kafka/lib
	@touch $@

flink-jars: $(FLINK_STAMP) ## download Flink's jars into .flink/lib, for benchmarks.flink_match (needs JDK 17 and Maven)

$(FLINK_STAMP): benchmarks/anchors/flink/pom.xml
	@command -v javac >/dev/null || { echo "javac is missing; try: apt-get install openjdk-17-jdk-headless"; exit 1; }
	@command -v mvn >/dev/null || { echo "mvn is missing; try: apt-get install maven"; exit 1; }
	@rm -rf .flink/lib
	mvn -q -f benchmarks/anchors/flink/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.flink/lib
	@touch $@

kafka: setup kafka-jars ## run a one-node Kafka broker, without Docker, on KAFKA_PORT (9092)
	$(BIN)/python -m tests.kafka.broker --port $(KAFKA_PORT) --data $(KAFKA_DATA)

soak: setup kafka-jars ## the fault matrix, campaigns and simulated seeds, SOAK_MINUTES (60) altogether; report: .soak/report.md
	$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES) --jobs $(WORKERS) --into .soak

ablations: setup ## switch mechanisms off one by one, see that tests notice; writes the table of docs/reliability.md
	$(BIN)/python -m tests.simulation.ablation_table --jobs $(WORKERS)

bench: setup ## the benchmarks
	$(BIN)/python -m benchmarks

lock: ## pin every dependency again, with hashes
	@command -v $(UV) >/dev/null || { echo "uv is missing; try: pip install uv"; exit 1; }
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --upgrade \
	  --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

clean: ## remove what these targets made, the broker's data too
	rm -rf .venv .kafka .flink .demo .soak .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
