# Every target sets up what it needs from a bare clone: only python3 (3.11 or newer) and make are expected.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.8
UV := .tools/bin/uv
SBOM ?= dist/sbom.cdx.json
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(PYTHON)

PHASE ?=
REGION ?=
WHERE := $(if $(PHASE),--phase "$(PHASE)") $(if $(REGION),--region "$(REGION)")

.PHONY: help plan deploy destroy urns up down test test-fast lint bench chaos promote-demo deps alerts dashboards dashboards-preview dashboards-pictures gate gate-self-test capacity drill policy generated check-generated sbom clean

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

plan: .venv/.infra ## Show what the stacks would make and cost, with no account and no engine (PHASE=, REGION=, OUT=folder, DIFF=revision)
	@.venv/bin/python -m infra.plan $(WHERE) $(if $(OUT),--out "$(OUT)") $(if $(DIFF),--diff "$(DIFF)")

deploy: .venv/.infra ## Make a phase's stacks in order, with Pulumi (PHASE=, REGION=, YES=1: without asking)
	@.venv/bin/python -m infra.deploy up $(WHERE) $(if $(YES),--yes)

destroy: .venv/.infra ## Take a phase's stacks down in the opposite order (PHASE=, REGION=, YES=1: without asking)
	@.venv/bin/python -m infra.deploy down $(WHERE) $(if $(YES),--yes)

gate: .venv/.dev ## Prove a phase's targets at one replica's share of its load (PHASE=, SCENARIO=names, OUT=folder, AGAINST=revision, ACCEPT=1)
	@.venv/bin/python -m loadtest.gate --phase "$(PHASE)" $(if $(SCENARIO),--scenario "$(SCENARIO)") $(if $(OUT),--out "$(OUT)") \
	  $(if $(AGAINST),--against "$(AGAINST)") $(if $(ACCEPT),--accept)

gate-self-test: .venv/.dev ## Show that the gate passes what is healthy and stops what is slower or fails
	@.venv/bin/python -m loadtest.self_test

capacity: .venv/.dev ## Find the rate at which one replica leaves its targets, and what a request costs as things grow (PHASE=, OUT=folder, ANEW=1; GROWTH=1, MOST=n)
	@.venv/bin/python -m loadtest.capacity $(if $(PHASE),--phase "$(PHASE)") $(if $(OUT),--out "$(OUT)") $(if $(ANEW),--anew) $(if $(GROWTH),--growth) $(if $(MOST),--most "$(MOST)")

drill: .venv/.dev ## Break the system on purpose and mend it by a runbook's own commands (RUNBOOK=name, ALL=1, CI=1: the five rollbacks)
	@.venv/bin/python -m runbooks.drill $(RUNBOOK) $(if $(ALL),--all) $(if $(CI),--ci)

policy: $(UV) ## Set up the environment of the policy pack, for `pulumi preview --policy-pack infra/policy`
	@UV_PROJECT_ENVIRONMENT=.venv-policy $(UV) sync --quiet --locked --no-default-groups --group policy

urns: .venv/.dev ## Write down the names of every stack's resources (DROP=1: also those that are to go)
	@.venv/bin/python -m tests.urns write $(if $(DROP),--drop)

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

alerts: generated ## Write the rules of every phase anew (all generated files with them)

dashboards: generated ## Write every dashboard anew (all generated files with them)

dashboards-preview: .venv/.dev ## Draw dashboards from a Prometheus, without Grafana (BOARD=, PROMETHEUS=, RANGE=, STEP=, OUT=, WIDTH=, PANELS=)
	@.venv/bin/python -m dashboards.render $(or $(BOARD),all) $(if $(PROMETHEUS),--prometheus "$(PROMETHEUS)") $(if $(RANGE),--range "$(RANGE)") \
	  $(if $(STEP),--step "$(STEP)") $(if $(OUT),--out "$(OUT)") $(if $(WIDTH),--width "$(WIDTH)") $(if $(PANELS),--panels "$(PANELS)")

dashboards-pictures: .venv/.dev ## Make the pictures of dashboards under load with a fault in it (OUT=, BOARDS=uids, PAGES=1)
	@.venv/bin/python docs/pictures/dashboards.py $(if $(OUT),--out "$(OUT)") $(if $(BOARDS),--boards "$(BOARDS)") $(if $(PAGES),--pages)

generated: .venv/.dev ## Write the generated parts of the repo anew
	@.venv/bin/python -m tests.generated write

check-generated: .venv/.dev ## Fail where a generated part differs from its source
	@.venv/bin/python -m tests.generated check

clean: ## Remove the environment and caches, keep the data folder
	@rm -rf .venv .venv-policy .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

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
	@$(UV) sync --quiet --locked --inexact --group app --group dev --group infra
	@touch .venv/.app .venv/.infra $@

.venv/.infra: $(UV) pyproject.toml uv.lock
	@$(UV) sync --quiet --locked --inexact --no-default-groups --group app --group infra
	@touch .venv/.app $@
