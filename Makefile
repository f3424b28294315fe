# `make help` lists what there is. Every target sets up what it needs on a machine with Python 3.11 or newer.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV := $(shell command -v uv)
VENV := .venv
BIN := $(VENV)/bin
DEMO := --ledger ./demo-ledger --format table
ARGS ?=

# What the tests find their servers and sample data by. A test whose server is missing skips and says so.
export AZURITE ?= $(CURDIR)/.ci/tools/node_modules/.bin/azurite-blob
export FOCUS_VALIDATOR ?= $(CURDIR)/.venv-focus-validator/bin/focus-validator
export KUBECOST_CLIENT ?= $(CURDIR)/.venv-kubecost-client/bin/ct-kubecost-mcp-server
export GPULEDGER_SHARED ?= $(abspath $(CURDIR)/../shared)

# The official FOCUS validator needs Python 3.12 or newer, and an environment of its own.
VALIDATOR := .venv-focus-validator
NEWER = $(firstword $(foreach p,python3.12 python3.13 python3.14 python3 $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python),$(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $(p))))
# A published client of OpenCost's API, which the tests point at `gpuledger serve`; its pins are not ours.
CLIENT := .venv-kubecost-client
AZURITE_VERSION := 3.35.0

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench servers lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-9s %s\n", $$1, $$2}'

run: $(VENV)/.installed ## set up, make a synthetic company, build its ledger, print the report
	$(BIN)/gpuledger $(DEMO) demo
	$(BIN)/gpuledger $(DEMO) build
	$(BIN)/gpuledger $(DEMO) report

test: $(VENV)/.installed ## all tests that can run here (ARGS='-k name' for some); `make servers` first for all of them
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed ## ruff, format, types and layers; runs all four before it fails
	@failed=0; \
	for check in "ruff check" "ruff format --check" "mypy" "lint-imports --no-logo"; do \
		echo "== $$check"; $(BIN)/$$check || failed=1; \
	done; exit $$failed

format: $(VENV)/.installed ## format, and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.installed ## every benchmark, one after another (ARGS=name for one)
	$(BIN)/python -m benchmarks $(ARGS)

servers: .ci/tools/.azurite-$(AZURITE_VERSION) $(VALIDATOR)/.installed $(CLIENT)/.installed ## what the full test suite talks to: azurite (npm), the official FOCUS validator, a client of OpenCost's API

lock: ## renew requirements/*.txt (needs uv; ARGS=--upgrade for newer versions)
	@test -n "$(UV)" || { echo "Hint: pip install uv" >&2; exit 1; }
	@$(call compile,runtime) pyproject.toml
	@$(call compile,dev) pyproject.toml --extra bigquery --extra postgres --group dev --constraint requirements/runtime.txt
	@cd tests/focus/official && $(UV) pip compile --quiet --python-version 3.12 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --custom-compile-command "make lock" $(ARGS) focus-validator.in --output-file focus-validator.txt
	@cd tests/surfaces/kubecost_client && $(UV) pip compile --quiet --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --custom-compile-command "make lock" $(ARGS) kubecost-client.in --output-file kubecost-client.txt

compile = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(ARGS) --output-file requirements/$(1).txt

clean: ## remove environments, tools, caches and the demo
	rm -rf .venv .venv-* .ci/tools demo-ledger demo-bills build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# $(1) is the environment, $(2) its lock.
define create
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hint: gpuledger needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3")'
	rm -rf $(1)
	$(if $(UV),$(UV) venv --quiet --python $(PYTHON) $(1),$(PYTHON) -m venv $(1))
	$(if $(UV),$(UV) pip install --quiet --python $(1)/bin/python,$(1)/bin/python -m pip install --quiet --disable-pip-version-check) \
		--require-hashes --requirement $(2)
endef

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	$(call create,$(VENV),requirements/dev.txt)
	$(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check) \
		--no-deps --no-build-isolation --editable .
	@touch $@

$(VALIDATOR)/.installed: tests/focus/official/focus-validator.txt
	@if test -z "$(NEWER)"; then \
		echo "no Python 3.12 or newer: the comparison with the official validator is skipped"; \
	else \
		rm -rf $(VALIDATOR) && $(NEWER) -m venv $(VALIDATOR) && \
		$(VALIDATOR)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $< && touch $@; \
	fi

$(CLIENT)/.installed: tests/surfaces/kubecost_client/kubecost-client.txt
	$(call create,$(CLIENT),$<)
	@touch $@

.ci/tools/.azurite-$(AZURITE_VERSION):
	@command -v npm >/dev/null || { echo "Hint: azurite needs Node.js and npm" >&2; exit 1; }
	rm -rf .ci/tools && mkdir -p .ci/tools
	npm install --prefix .ci/tools --silent --no-audit --no-fund --no-save --ignore-scripts azurite@$(AZURITE_VERSION)
	@touch $@
