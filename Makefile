# Every target is one line; bootstrap.py installs what is missing, shows each step with its time, and resumes when it was interrupted.
# Without make: python3 bootstrap.py release, or test, is the same, and installs make.

ENV ?= local
SETUP := python3 bootstrap.py
PASSED = --env $(ENV) $(if $(EXTRA),-- $(EXTRA))
# It becomes the stages, in place of the shell: a signal to make or its end then reaches them, and they clean up.
STAGES := exec $(SETUP) test

.DEFAULT_GOAL := help
.PHONY: help release test evidence down up shell check hosts rebuild site bundle ssh drift readiness contract load lint unit integration topology zones rehearsal compat-engine faults drift-proof readiness-proof checks-proof rollback-proof kill-matrix mutants roles molecule lock bench-worker bench-release bench-topology bench-load bench-relay bench-release-load

help: ## list all targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ From nothing to a fulfilled order (ENV=local unless given; EXTRA="..." goes to ansible-playbook)

release: ## hosts, services, signed bundle, release and smoke; installs what is missing
	@$(SETUP) release $(PASSED)

test: ## every test stage, ends in: N passed, N failed
	@$(STAGES)

evidence: ## every test stage, or STAGE="lint unit", each result signed as evidence of the commit (docs/release.md)
	@$(STAGES) $(STAGE) -- --evidence

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

bundle: ## build and sign the bundle in dist/: artifacts, contracts, migrations, processes, runbook, bill of materials
	@$(SETUP) bundle $(PASSED)

up: ## a whole environment, released: ENV=staging or any other, in a network of its own where its machines are elsewhere
	@$(SETUP) up $(PASSED)

drift: ## compare declared with live, or with AGAINST=another environment; exit 3 with a report of what differs (docs/drift.md)
	@$(SETUP) drift $(if $(AGAINST),--against $(AGAINST)) $(PASSED)

readiness: ## ask for all 19 items that a release to production needs, and leave the signed answer: ENV=prod BUNDLE=its folder (docs/readiness.md)
	@$(SETUP) tools --quiet && $(SETUP) readiness $(if $(BUNDLE),--bundle $(BUNDLE)) $(PASSED)

contract: ## compare OpenAPI, events, variables and settings with a bundle before it: PREVIOUS=its folder or a git revision (docs/contracts.md)
	@$(SETUP) tools --quiet && $(SETUP) contract $(if $(PREVIOUS),--previous $(PREVIOUS)) --env $(if $(filter file,$(origin ENV)),contract,$(ENV)) $(if $(EXTRA),-- $(EXTRA))

load: ## generated orders for an environment that measures capacity: ENV=performance ORDERS=1000000; resumes and adds
	@$(SETUP) load $(if $(ORDERS),--orders $(ORDERS)) $(PASSED)

shell: ## a shell that sees a rehearsal's hosts and nothing else: ansible-playbook there is as in production; CMD="..." runs one command
	@$(SETUP) shell --env $(ENV) $(if $(CMD),-- $(CMD))

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

zones: ## every host against every port of every host, on hosts with nothing but their packet filters; needs no released environment
	@$(STAGES) zones

rehearsal: ## all of ENV=staging on this machine, then isolation, zones, identities, and hosts that lose their power
	@$(STAGES) rehearsal

compat-engine: ## the workers against a newer engine version, beside released ENV=ci hosts
	@$(SETUP) tools --quiet && .venv/bin/pytest -q tests/integration/worker/test_newer_engine.py

FAULTS := $(SETUP) tools --quiet && CPQ_TEST_INVENTORY_ENV=$(if $(filter file,$(origin ENV)),ci,$(notdir $(ENV))) .venv/bin/python -m tests.faults

faults: ## every fault scenario on released ENV=ci hosts, with a table at its end; SCENARIO=name for one, CPQ_FAULTS_SEED=n to replay
	@$(FAULTS) $(SCENARIO)

drift-proof: ## alter a released ENV=ci host in one thing after the other and see each found, and nothing else; MUTATION="name" for one
	@$(SETUP) tools --quiet && .venv/bin/python -m tests.drift_proof $(if $(MUTATION),"$(MUTATION)")

readiness-proof: ## a sabotage for each item of readiness, 19 in all, each seen to turn its item red and no other; needs no hosts
	@$(SETUP) tools --quiet && .venv/bin/pytest -v tests/unit/modules/test_readiness_proof.py

checks-proof: ## plant the fault of every post-check of a release on released ENV=ci hosts, of which make test tries two
	@$(SETUP) tools --quiet && CPQ_EVERY_CHECK=1 .venv/bin/pytest -v tests/topology/release/test_checks.py

rollback-proof: ## a later release and back, refused and done, on released ENV=ci hosts
	@$(STAGES) rollback

kill-matrix: ## a release dies at each of its steps, with its control machine and with its host, and is finished by the same command; on released ENV=ci hosts
	@$(STAGES) kill-matrix

mutants: ## bugs planted on purpose, each to be caught by the fault scenarios; MUTANT=name for one
	@$(FAULTS).mutants $(MUTANT)

roles: ## both scenarios of each role on a host of its own: check, converge, idempotence, verify, sabotage; ROLE=name for one
	@$(SETUP) tools --quiet && .venv/bin/python -m tests.molecule $(ROLE)

molecule: ## scenarios of the roles that the newest change touches, then others in turn, for 6 minutes
	@$(STAGES) molecule

##@ Dependencies

UV_COMPILE := .venv/bin/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-platform x86_64-manylinux_2_28
UNITS := api worker relay consumer callback admin console simulator

lock: ## lock what pyproject.toml asks for: one file per artifact for the hosts' Python, one for the control machine
	@$(SETUP) tools --quiet
	@for unit in $(UNITS); do $(UV_COMPILE) --python-version 3.13 --extra $$unit pyproject.toml -o .config/locks/$$unit.txt || exit 1; done
	@$(UV_COMPILE) --python-version 3.11 $(addprefix --extra ,$(UNITS) control) pyproject.toml -o .config/locks/control.txt

##@ Measurements

bench-worker: ## jobs per second of our worker beside pyzeebe's own and the engine's limit, on released ENV=ci hosts
	@$(SETUP) tools --quiet && CPQ_TEST_INVENTORY_ENV=$(if $(filter local,$(ENV)),ci,$(ENV)) .venv/bin/python -m tests.bench.worker

bench-release: ## times of a first release and a repeat; COLD=1 for a start from empty caches
	@$(SETUP) tools --quiet && .venv/bin/python -m tests.bench.release $(if $(COLD),--cold)

bench-topology: ## times of a whole environment from no hosts to a passed smoke test, and of a repeat; ENV=staging unless given
	@$(SETUP) tools --quiet && .venv/bin/python -m tests.bench.topology --environment $(if $(filter file,$(origin ENV)),staging,$(ENV))

bench-release-load: ## a release and a rollback of an environment that is up, at 70 % load, with every failed request and doubled effect; ENV=staging unless given
	@$(SETUP) tools --quiet && .venv/bin/python -m tests.bench.release_load --environment $(if $(filter file,$(origin ENV)),staging,$(ENV))

bench-load: ## generated orders per second beside a plain COPY of the same rows, on released ENV=ci hosts; ORDERS=50000
	@$(SETUP) tools --quiet && CPQ_TEST_INVENTORY_ENV=$(if $(filter local,$(ENV)),ci,$(ENV)) .venv/bin/python -m tests.bench.load $(if $(ORDERS),--orders $(ORDERS))

bench-relay: ## events per second through the relay beside a plain producer loop, on an environment that is up
	@$(SETUP) tools --quiet && CPQ_TEST_INVENTORY_ENV=$(ENV) .venv/bin/python -m tests.bench.relay
