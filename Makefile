# Every target is one line; bootstrap.py installs what is missing, shows each step with its time, and resumes when it was interrupted.
# Without make: python3 bootstrap.py release, or test, is the same, and installs make.

ENV ?= local
SETUP := python3 bootstrap.py
PASSED = --env $(ENV) $(if $(EXTRA),-- $(EXTRA))
# It becomes the stages, in place of the shell: a signal to make or its end then reaches them, and they clean up.
STAGES := exec $(SETUP) test

.DEFAULT_GOAL := help
.PHONY: help release test down check hosts rebuild site build ssh lint unit integration topology compat-engine faults mutants molecule lock bench-worker bench-release bench-relay

help: ## list all targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ From nothing to a fulfilled order (ENV=local unless given; EXTRA="..." goes to ansible-playbook)

release: ## hosts, services, artifacts, release and smoke; installs what is missing
	@$(SETUP) release $(PASSED)

test: ## every test stage, ends in: N passed, N failed
	@$(STAGES)

down: ## remove every host, mount, bridge, firewall table and process, and the generated secrets
	@$(SETUP) down $(PASSED)

##@ Step by step

check: ## only look whether the set-up could run here; changes nothing
	@$(SETUP) check --env $(ENV)

hosts: ## bring the hosts up
	@$(SETUP) hosts $(PASSED)

rebuild: ## make the hosts anew, their disks included
	@$(SETUP) rebuild $(PASSED)

site: ## hosts, then PostgreSQL, Redis, Kafka and Zeebe on them
	@$(SETUP) site $(PASSED)

build: ## build the artifacts
	@$(SETUP) build $(PASSED)

ssh: ## a shell on the first host, or on HOST=name; run one command with CMD="..."
	@$(SETUP) ssh --env $(ENV) $(if $(HOST),--host $(HOST)) $(if $(CMD),-- $(CMD))

##@ One test stage alone

lint: ## ruff, mypy, import contracts, yamllint, ansible-lint, squawk
	@$(STAGES) lint

unit: ## unit, contract, architecture and process tests; needs no hosts
	@$(STAGES) unit

integration: ## components against the real services of released ENV=ci hosts
	@$(STAGES) integration

topology: ## units, faults, drifts, bad input, kill and resume on released ENV=ci hosts
	@$(STAGES) topology

compat-engine: ## the workers against a newer engine version, beside released ENV=ci hosts
	@$(SETUP) tools --quiet && .venv/bin/pytest -q tests/integration/worker/test_newer_engine.py

FAULTS := $(SETUP) tools --quiet && CPQ_TEST_INVENTORY_ENV=$(if $(filter file,$(origin ENV)),ci,$(notdir $(ENV))) .venv/bin/python -m tests.faults

faults: ## every fault scenario on released ENV=ci hosts, with a table at its end; SCENARIO=name for one, CPQ_FAULTS_SEED=n to replay
	@$(FAULTS) $(SCENARIO)

mutants: ## bugs planted on purpose, each to be caught by the fault scenarios; MUTANT=name for one
	@$(FAULTS).mutants $(MUTANT)

molecule: ## each role on a host of its own: check, converge, idempotence, verify, sabotage; ROLE=name for one
	@$(SETUP) tools --quiet && .venv/bin/python -m tests.molecule $(ROLE)

##@ Dependencies

UV_COMPILE := .venv/bin/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-platform x86_64-manylinux_2_28
UNITS := api worker relay consumer callback admin simulator

lock: ## lock what pyproject.toml asks for: one file per artifact for the hosts' Python, one for the control machine
	@$(SETUP) tools --quiet
	@for unit in $(UNITS); do $(UV_COMPILE) --python-version 3.13 --extra $$unit pyproject.toml -o .config/locks/$$unit.txt || exit 1; done
	@$(UV_COMPILE) --python-version 3.11 $(addprefix --extra ,$(UNITS) control) pyproject.toml -o .config/locks/control.txt

##@ Measurements

bench-worker: ## jobs per second of our worker beside pyzeebe's own and the engine's limit, on released ENV=ci hosts
	@$(SETUP) tools --quiet && CPQ_TEST_INVENTORY_ENV=$(if $(filter local,$(ENV)),ci,$(ENV)) .venv/bin/python -m tests.bench.worker

bench-release: ## times of a first release and a repeat; COLD=1 for a start from empty caches
	@$(SETUP) tools --quiet && .venv/bin/python -m tests.bench.release $(if $(COLD),--cold)

bench-relay: ## events per second through the relay beside a plain producer loop, on an environment that is up
	@$(SETUP) tools --quiet && CPQ_TEST_INVENTORY_ENV=$(ENV) .venv/bin/python -m tests.bench.relay
