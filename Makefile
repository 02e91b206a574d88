# `make demo` and `make test` need Python 3.11, pip and make; they set up the rest (the tests' programs by apt-get, as root or by sudo).

PYTHON_IN_VENV := .venv/bin/python
SET_UP := .venv/.set-up

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test setup lint format audit clean differential streams bench bench-check simulate sdks

help:
	@echo "make demo     show the main job on a sample payments API"
	@echo "make test     every check that gates a change: lint, types, known vulnerabilities, tests"
	@echo "make differential  2,350 exchanges sent directly, through nginx and through idemproxy"
	@echo "make streams  the long run of streams: 10 GiB each way, 1,000 event streams"
	@echo "make simulate N=100000  many schedules of the deterministic simulation"
	@echo "make bench    what a request costs, next to nginx with Lua and Redis"
	@echo "make bench-check  whether it costs more than when a result was last kept"
	@echo "make sdks     what client libraries and Chromium do on each problem: the tables of docs/clients.md (needs Node, npm, Chromium)"
	@echo "make setup    make .venv, with idemproxy and all that its tests need"
	@echo "make lint     ruff, the format, mypy --strict"
	@echo "make format   put the code into its format"
	@echo "make audit    look the packages up in the list of known vulnerabilities"
	@echo "make clean    remove what was made"

demo: $(SET_UP)
	@$(PYTHON_IN_VENV) -m idemproxy demo

test: lint audit
	@.ci/set-up programs
	@.ci/test

streams: $(SET_UP)
	$(PYTHON_IN_VENV) -m tests.streams

N ?= 10000
simulate: $(SET_UP)
	$(PYTHON_IN_VENV) -m tests.simulation --schedules $(N)

sdks: $(SET_UP)
	$(PYTHON_IN_VENV) -m tests.sdks

bench: $(SET_UP)
	@.ci/set-up peers
	$(PYTHON_IN_VENV) -m tests.bench

bench-check: $(SET_UP)
	@.ci/set-up peers
	$(PYTHON_IN_VENV) -m tests.bench --check --connections 32

differential: $(SET_UP)
	@.ci/set-up programs
	$(PYTHON_IN_VENV) -m tests.differential

setup: $(SET_UP)

$(SET_UP): pyproject.toml tests/requirements.txt .ci/set-up
	@.ci/set-up packages
	@touch $@

lint: $(SET_UP)
	$(PYTHON_IN_VENV) -m ruff check .
	$(PYTHON_IN_VENV) -m ruff format --check .
	$(PYTHON_IN_VENV) -m mypy

format: $(SET_UP)
	$(PYTHON_IN_VENV) -m ruff check --fix .
	$(PYTHON_IN_VENV) -m ruff format .

audit: $(SET_UP)
	@$(PYTHON_IN_VENV) .ci/audit.py

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
