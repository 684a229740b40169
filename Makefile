# On a fresh clone, with Python 3.11 or newer and make:
#   make demo    the main job, killed in the middle and resumed
#   make test    the test suite
# Each of the targets makes .venv by itself when it is missing or out of date.

PYTHON ?= python3
ARGS ?=
# How many processes share the test suite; 0 runs it in one, without what it costs to start the others.
JOBS ?= 2
PY := .venv/bin/python
STAMP := .venv/.installed

# The demo, the benchmarks and the crash tests start many interpreters; without bytecode files each one would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

# How much `make soak` does.
LAW ?= 100000
KILLS ?= 50
PROGRAMS ?= 10000
RACE_SECONDS ?= 30
MESSAGES ?= 1000000
NODES_SECONDS ?= 600
REQUESTS ?= 5000
FUZZ_SECONDS ?= 3600
CHANGES ?= 100

# What `make ha` runs Patroni with: as root it has to be open to other accounts, and the system's own is.
HA_PYTHON ?= $(or $(wildcard /usr/bin/python3),$(PYTHON))
HA_STAMP := .venv-ha/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint check bench bench-peers ha faults soak reference format clean

help: ## Show the targets.
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Make .venv, with the package and its tools.

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Perdure needs Python 3.11 or newer, found " + sys.version.split()[0] + "; name another one: make setup PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## Run the main job: real webhooks, kill -9 in the middle, resume, compare.
	$(PY) -m examples.github_bot.demo $(ARGS)

test: $(STAMP) ## Run the test suite, in JOBS processes.
	$(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: $(STAMP) ## Lint, format, types, layers.
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo

check: lint ## The same, the tidy test and the documents: what of the gate takes a minute.
	$(PY) -m pytest tests/gate $(ARGS)

bench: $(STAMP) ## Run the benchmarks; they print JSON lines. BENCH=short is a trial run.
	BENCH=$(BENCH) $(PY) -m benchmarks $(ARGS)

bench-peers: $(STAMP) ## Run Perdure beside its peers, each in its own .venv-peers/, and write docs/benchmarks.md.
	BENCH=$(BENCH) $(PY) -m benchmarks.side_by_side $(ARGS)

ha: $(STAMP) $(HA_STAMP) ## Kill the primary of a Patroni cluster under the bot, five times; SHORT=1 once.
	$(PY) -m tests.ha $(if $(SHORT),--rounds postmaster) $(ARGS)

$(HA_STAMP): tests/ha/requirements.txt
	$(HA_PYTHON) -m venv .venv-ha
	.venv-ha/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/ha/requirements.txt
	@touch $(HA_STAMP)

faults: $(STAMP) ## Apply each seeded fault in turn; every one has to fail a test.
	$(PY) -m tests.faults $(ARGS)

soak: $(STAMP) ## Run the long tests: LAW transactions, KILLS rounds of kill -9, PROGRAMS random programs, MESSAGES to one process, RACE_SECONDS of races, NODES_SECONDS of nodes that die, REQUESTS made of the OpenAPI document, FUZZ_SECONDS of archives that are nearly packages, CHANGES deploys and rollbacks under callers.
	PERDURE_SOAK_LAW=$(LAW) PERDURE_SOAK_KILLS=$(KILLS) PERDURE_SOAK_PROGRAMS=$(PROGRAMS) PERDURE_SOAK_RACE_SECONDS=$(RACE_SECONDS) PERDURE_SOAK_MESSAGES=$(MESSAGES) PERDURE_SOAK_NODES_SECONDS=$(NODES_SECONDS) PERDURE_SOAK_REQUESTS=$(REQUESTS) PERDURE_SOAK_FUZZ_SECONDS=$(FUZZ_SECONDS) PERDURE_SOAK_CHANGES=$(CHANGES) $(PY) -m pytest -m soak -o faulthandler_timeout=0 $(ARGS)

reference: $(STAMP) ## Write docs/reference/errors.md and api.md from the code.
	$(PY) -m tests.gate.reference

format: $(STAMP) ## Format the code and fix what can be fixed.
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

clean: ## Remove .venv and everything that tools leave behind.
	rm -rf .venv .venv-ha .venv-peers .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
