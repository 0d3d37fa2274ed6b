# Needs Python 3.11+ with venv, make and git; everything else comes from requirements.lock into .venv.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first interpreter that is new enough; name another with `make PYTHON=python3.13 …`.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The demo and many tests run our commands as processes; each would compile our modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: $(VENV)
$(VENV): $(INSTALLED) ## Install everything, pinned and hash-checked, into .venv (other targets do it when needed)

# --no-deps: the lock names everything, and pip resolving `package[extra]` would want the newest release instead.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Stillwatch needs Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing the pinned dependencies into $(VENV) (once; about half a minute) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## Labs share patterns through a real hub and catch a tampered one (leaves nothing running)
	$(BIN)/python docs/demo.py

.PHONY: run
run: $(INSTALLED) ## The same forum, left running for you to try; Ctrl-C ends it
	$(BIN)/python docs/demo.py --serve

# One worker more than cores: many tests wait, for a hub to start or for time to pass.
.PHONY: test
test: $(INSTALLED) ## Run every test (narrow it with ARGS="tests/hub -k receipt")
	$(BIN)/python -m pytest -n $$($(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)') --dist worksteal $(ARGS)

.PHONY: test-slow
test-slow: $(INSTALLED) ## Crash it for minutes: 20 kill -9 of hubs and of Postgres, 50 of sync, a full disk
	STILLWATCH_TEST_KILLS=20 STILLWATCH_TEST_SYNC_KILLS=50 $(BIN)/python -m pytest -s \
		tests/hub/test_killed_hub.py tests/member_client/test_interrupted_sync.py $(ARGS)

.PHONY: test-spark
test-spark: $(INSTALLED) ## Hold Spark to the reference evaluator (needs Java 17; fetches PySpark, 450 MB, once)
	$(BIN)/python -m pip install -qq --require-hashes --no-deps -r tests/spark/requirements.lock
	PYSPARK_PYTHON=$(CURDIR)/$(BIN)/python $(BIN)/python -m pytest -o timeout=0 tests/spark $(ARGS)

.PHONY: soak
soak: $(INSTALLED) ## A forum's day in miniature, with faults: OPERATIONS=200000 SEED=1
	$(BIN)/python -m tests.soak.run --operations $(or $(OPERATIONS),200000) $(if $(SEED),--seed $(SEED))

.PHONY: simulation
simulation: $(INSTALLED) ## Four labs with the default policy: whom good and bad patterns hit and block (ARGS="--seed 1 --json")
	$(BIN)/python -m tests.simulation.run $(ARGS)

.PHONY: fuzz
fuzz: $(INSTALLED) ## Send the hub what its OpenAPI document says and forbids, for minutes (EXAMPLES=500 SEED=1)
	FUZZ_EXAMPLES=$(or $(EXAMPLES),500) FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -s -o timeout=0 \
		tests/hub/test_openapi_fuzz.py tests/hub/test_statement_fuzz.py $(ARGS)

.PHONY: fuzz-parsers
fuzz-parsers: $(INSTALLED) ## Look for bytes that a parser stumbles over, by coverage (RUNS=1000000 of each; Linux)
	$(BIN)/python -m pip install -qq --require-hashes --no-deps -r tests/fuzz/requirements.lock
	for target in $$($(BIN)/python tests/fuzz/parsers.py --list); do \
		echo "$$target"; $(BIN)/python tests/fuzz/parsers.py "$$target" -runs=$(or $(RUNS),1000000) || exit 1; \
	done

.PHONY: mutation
mutation: $(INSTALLED) ## Break the code in small ways; see which no test notices (MODULES="sharing_protocol/notes.py …")
	$(BIN)/python -m pip install -qq --require-hashes --no-deps -r tests/mutation/requirements.lock
	HYPOTHESIS_PROFILE=mutation $(BIN)/mutmut run $(patsubst %.py,%.*,$(subst /,.,$(MODULES)))
	$(BIN)/mutmut results

.PHONY: lint
lint: $(INSTALLED) ## Check style, types and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(INSTALLED) ## Rewrite the code in the one format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(INSTALLED) ## Measure submitting, syncing and detecting on this machine
	$(BIN)/python tests/bench/run.py $(ARGS)

.PHONY: lock
lock: ## Bring the lock files up to pyproject.toml (UPGRADE=1: and every pin to its newest release)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install -qq uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--extra dev --extra embedded --extra gate --extra hub --extra keyring --extra referral --extra traces \
		--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra hub --extra traces \
		--custom-compile-command "make lock" --constraint requirements.lock \
		--output-file docs/deploy/requirements-hub.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --constraint requirements.lock \
		--output-file tests/mutation/requirements.lock tests/mutation/requirements.in

.PHONY: clean
clean: ## Remove .venv, caches and build results
	rm -rf $(VENV) build dist .coverage htmlcov .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
