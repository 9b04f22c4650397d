# Everything a newcomer needs: `make demo` to see it, `make test` before a change is handed in.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
BIN := .venv/bin
# The parts whose every branch must be reached by a test, and how much of them is now.
STRICT := ledger/*,p2pfl/core/*,p2pfl/averaging/*,p2pfl/privacy/*,gossip/*
STRICT_OMIT := gossip/libp2p_*
STRICT_MIN := 90
STRICT_TESTS := tests/averaging tests/core tests/gossip tests/ledger tests/privacy
# Test processes take their memory in large pages. Where a virtual machine runs inside another, each
# miss of the processor's page cache costs microseconds: there tests take a quarter of the time.
export PYTHONMALLOC := malloc
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1:glibc.malloc.top_pad=33554432
# Test processes side by side. Many tests wait for nodes, so two pay even where one would do.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 2 : n > 8 ? 8 : n)))

# The tests with one marker; that there are none yet (pytest's exit code 5) is no failure.
define suite
@$(BIN)/pytest -s -m $(1) $(or $(2),tests) || { code=$$?; [ $$code = 5 ] || exit $$code; echo "no tests are marked '$(1)' yet"; }
endef

.PHONY: help setup demo demo-tumour docker-demo test test-docker test-netns test-browser test-go test-nodes test-long lint format coverage coverage-ledger constraints clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Make .venv with everything needed (does nothing when nothing changed)
	@scripts/setup.sh

demo: setup ## Four hospitals train together on this machine; options in ARGS="--rounds 5"
	@$(BIN)/p2pfl demo --keep --home demo-homes $(ARGS)

demo-tumour: setup ## Five hospitals learn to mark tumours in 3D, with pictures; ARGS="--seed 8"
	@$(BIN)/p2pfl demo-tumour --pictures demo-tumour $(ARGS)

docker-demo: ## Five hospitals in containers, founding to audit; ARGS="--down" cleans up
	@scripts/docker_demo.sh $(ARGS)

test: setup lint ## Style, types, import rules and all tests that need no root
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

test-nodes: setup ## Studies of several real nodes: kills, floods, revoked approvals, researchers' code
	$(call suite,nodes)

test-docker: setup ## Build and run the containers, cut and kill them (installs Docker as root)
	$(call suite,docker,tests/docker)

test-netns: setup ## Nodes in network namespaces with delay, loss and cuts (root)
	@scripts/system_package.sh ip iproute2
	$(call suite,netns,tests/netns)

test-browser: setup ## Pages in a real browser (installs Chromium as root on Debian)
	@scripts/system_package.sh chromium chromium fonts-dejavu-core
	$(call suite,browser,tests/browser)

test-go: setup ## The ledger's exports, checked by programs in Go (installs Go as root on Debian)
	@scripts/system_package.sh go golang-go golang-golang-x-mod-dev
	$(call suite,go)

test-long: setup ## What runs for many minutes: many kills, many sites
	$(call suite,long)

lint: setup ## Style, types and import rules alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Put every file into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: setup ## Core, averaging, privacy, gossip and ledger are reached by their own tests
	$(BIN)/coverage erase
	MEASURE_COVERAGE=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal $(STRICT_TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='$(STRICT)' --omit='$(STRICT_OMIT)' --show-missing --skip-covered --fail-under=$(STRICT_MIN)

coverage-ledger: setup ## Every branch of ledger/ is reached by its own tests (two minutes)
	COVERAGE_FILE=.coverage.ledger $(BIN)/coverage run --branch --source=ledger -m pytest -q tests/ledger
	$(BIN)/coverage report --data-file=.coverage.ledger --show-missing --skip-covered --fail-under=100

constraints: setup ## Pin all dependencies anew after a change of pyproject.toml
	scripts/compile_constraints.sh

clean: ## Remove what `make` made, .venv included
	rm -rf .venv .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
