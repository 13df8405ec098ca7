# Every target sets up what it needs from a bare clone: only python3 (3.11 or newer) and make are expected.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.8
UV := .tools/bin/uv
SBOM ?= dist/sbom.cdx.json
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(PYTHON)

.PHONY: help up down test test-fast lint bench chaos promote-demo deps generated check-generated sbom clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

up: .venv/.app ## Start the PoC phase on this machine (DETACH=1: in the background)
	@.venv/bin/python -m app.launch up $(if $(DETACH),--detach)

down: .venv/.app ## Stop what `make up DETACH=1` started
	@.venv/bin/python -m app.launch down

test: .venv/.dev ## Run every test this machine can run; ends with what was skipped
	@.venv/bin/python -m tests.run all

test-fast: .venv/.dev ## Run unit and contract tests, no servers
	@.venv/bin/python -m tests.run fast

bench: .venv/.dev ## Run the benchmarks (ONLY=name picks one, JSON=file keeps the figures)
	@.venv/bin/python -m tests.run bench $(if $(ONLY),--only "$(ONLY)") $(if $(JSON),--json "$(JSON)")

promote-demo: .venv/.dev ## Move a PoC of 100,000 leads to PostgreSQL while it is written, and back (LEADS=, DOCUMENTS=)
	@.venv/bin/python -m tests.perf.promotion_demo $(if $(LEADS),--leads $(LEADS)) $(if $(DOCUMENTS),--documents $(DOCUMENTS))

chaos: .venv/.dev ## Make faults on purpose and say what they cost (ONLY=name picks one, SEEDS=n, JSON=file)
	@.venv/bin/python -m tests.chaos.run $(if $(ONLY),--only "$(ONLY)") $(if $(SEEDS),--seeds "$(SEEDS)") $(if $(JSON),--json "$(JSON)")

lint: .venv/.dev ## Check style, types, arrows, revisions and generated files
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/python -m tests.squawk
	@$(MAKE) --no-print-directory check-generated

deps: ## Install the servers that the tests use, where the platform has a package manager
	@$(PYTHON) -m tests.support.components install

sbom: $(UV) ## Write what the image holds of others, as CycloneDX (SBOM=file; dist/sbom.cdx.json where not given)
	@mkdir -p $(dir $(SBOM))
	@$(UV) export --quiet --locked --no-default-groups --group app --format cyclonedx1.5 --output-file $(SBOM) >/dev/null
	@echo "Written: $(SBOM)"

generated: .venv/.dev ## Write the generated parts of the repo anew
	@.venv/bin/python -m tests.generated write

check-generated: .venv/.dev ## Fail where a generated part differs from its source
	@.venv/bin/python -m tests.generated check

clean: ## Remove the environment and caches, keep the data folder
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Trellis needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Set PYTHON=/path/to/python3."; exit 1; }
	@echo "Setting up uv $(UV_VERSION) in .tools"
	@{ $(PYTHON) -m venv .tools && .tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); } >.uv-setup.log 2>&1 \
	 || { rm -rf .tools && $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools/lib uv==$(UV_VERSION) && mkdir -p .tools/bin && ln -sf ../lib/bin/uv .tools/bin/uv; } >>.uv-setup.log 2>&1 \
	 || { cat .uv-setup.log; rm -f .uv-setup.log; echo "uv could not be set up: this needs pip (package python3-venv or python3-pip)."; exit 1; }
	@rm -f .uv-setup.log

.venv/.app: $(UV) pyproject.toml uv.lock
	@$(UV) sync --quiet --locked --inexact --no-default-groups --group app
	@touch $@

.venv/.dev: $(UV) pyproject.toml uv.lock
	@$(UV) sync --quiet --locked --inexact --group app --group dev
	@touch .venv/.app $@
