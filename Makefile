# Words of the project; `make` alone lists them. Everything happens in .venv, which the first word that needs it creates.
#
# PIP_FLAGS reaches every installation, for another index or a mirror. On Linux the default torch wheel is the CUDA one;
# README.md shows the line for the much smaller CPU wheel.

PYTHON    ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
                 $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP_FLAGS ?=
TORCH     ?= torch==2.13.0

BIN       := .venv/bin
READY     := .venv/.ready

# Some systems ship Python without ensurepip; then the pip that is there fills the environment.
MAKE_VENV_WITH_THE_HOSTS_PIP = { $(PYTHON) -m venv --clear --without-pip .venv && \
    $(PYTHON) -m pip --python $(BIN)/python install --quiet $(PIP_FLAGS) pip; }

export HF_HUB_OFFLINE = 1
export HF_HUB_DISABLE_TELEMETRY = 1

FUZZ      ?= 1000

.PHONY: help setup programs test lint check fix chaos coverage memory test-oldest audit fuzz mutants doctor-table doctor-foreign architectures \
        demo bench cost scaling doctor-cost label-load taste device notebook wheel-test clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "heed needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv || $(MAKE_VENV_WITH_THE_HOSTS_PIP)
	$(BIN)/python -m pip install --quiet --upgrade $(PIP_FLAGS) pip
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) $(TORCH)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[dev,postgres]'
	@touch $(READY)

setup: $(READY) ## create .venv with everything that is needed

programs: ## a browser and a database server, for the tests of the labeling page: installed where we may, named where not
	@missing=; command -v chromium >/dev/null || missing=chromium; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing="$$missing postgresql"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing; \
	else echo "some tests are skipped without: $$missing (Debian: apt-get install $$missing)"; fi

test: $(READY) programs ## run the fast tests (no network, no accelerator)
	$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadscope

lint: $(READY) ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test ## lint and the fast tests

fix: $(READY) ## format and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

mutants: $(READY) ## break formulas on purpose; every break must be caught by a test
	$(BIN)/python tests/mutants/run.py

chaos: $(READY) ## 200 kills at random moments over every stage, states that lack a part, full disks (20 minutes; KILLS= SEED=)
	$(BIN)/python tests/chaos/kills.py --kills $(or $(KILLS),200) --seed $(or $(SEED),0)
	$(BIN)/python tests/chaos/controls.py
	$(BIN)/python tests/chaos/full_disk.py

memory: $(READY) ## 500 steps of PPO: does memory grow, what does saving cost (minutes; DEMO=runs/demo)
	$(BIN)/python tests/chaos/memory.py --demo $(or $(DEMO),runs/demo)

OLDEST := build/oldest
test-oldest: ## the fast tests in an environment of its own, with the lowest version of every range (half an hour)
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet $(PIP_FLAGS) $(TORCH)
	$(OLDEST)/bin/python tests/oldest.py > $(OLDEST)/lowest.txt
	$(OLDEST)/bin/python -m pip install --quiet $(PIP_FLAGS) -c $(OLDEST)/lowest.txt -e '.[dev,postgres]'
	$(OLDEST)/bin/python -m pytest -q $(TESTS)

audit: ## known vulnerabilities of the exact versions in constraints.txt (asks a public database)
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet $(PIP_FLAGS) pip-audit
	build/audit/bin/python tests/audit.py

coverage: $(READY) ## does every kind of 95 % interval hold the truth in 93 to 97 of 100 samples? (half an hour; ONLY= a name)
	$(BIN)/python tests/coverage/intervals.py --repetitions 2000 --only "$(ONLY)"

fuzz: $(READY) ## some ten thousand malformed files, rows and dialogues, new ones each time (minutes; FUZZ= examples a test)
	HEED_FUZZ=$(FUZZ) $(BIN)/python -m pytest -q tests/data/test_fuzz.py tests/training/test_fuzz_state.py

doctor-table: $(READY) ## every fault of PPO under 20 seeds, and healthy runs: what the doctor says (an hour; DEMO=runs/demo)
	$(BIN)/python tests/doctor/table.py --demo $(or $(DEMO),runs/demo)

architectures: $(READY) ## small random models of every family: docs/architectures.md again, then the whole loop on each (an hour)
	$(BIN)/python tests/architectures/page.py
	$(BIN)/python -m pytest -q tests/architectures -m "slow or not slow"
doctor-foreign: $(READY) ## every fault in rollouts of another trainer, three seeds, two architectures (half an hour)
	$(BIN)/python tests/foreign/foreign_table.py

demo: $(READY) ## the whole loop on a generated little world, offline, in minutes
	$(BIN)/heed demo

bench: $(READY) ## heed beside TRL, generate and the arithmetic, on an idle machine (minutes a work; WORK= SHAPE= ROUNDS=)
	PIP_FLAGS="$(PIP_FLAGS)" $(BIN)/python benchmarks/side_by_side.py $(WORK) --shape $(or $(SHAPE),gpt2 pocket) \
	    --rounds $(or $(ROUNDS),3)

cost: $(READY) ## seconds and memory of a step, foretold by a formula and found: three models, three batches (ten idle minutes)
	$(BIN)/python benchmarks/cost.py

scaling: $(READY) ## does the cost of PPO grow with the work alone: batches and answers at 1, 2, 4, 8 times (minutes)
	$(BIN)/python benchmarks/scaling.py

doctor-cost: $(READY) ## what the doctor's live checks cost: PPO steps with and without them
	$(BIN)/python benchmarks/doctor_cost.py

label-load: $(READY) ## 50 simulated labelers, 5,000 submissions, the server killed ten times; and a broken server that must be found out
	$(BIN)/python benchmarks/label_load.py

taste: $(READY) ## three simulated tastes label 20 to 150 tasks over HTTP, then heed loop: does the policy follow? (an hour; DEMO=runs/demo)
	$(BIN)/python experiments/taste/transfer.py --demo $(or $(DEMO),runs/demo) --figure docs/figures/taste.svg

device: $(READY) ## on a machine with an accelerator: device tests, demo, PPO in bfloat16, resume, beside the processor
	PYTHON=$(BIN)/python benchmarks/device.sh

notebook: $(READY) ## run docs/notebook.ipynb as it stands (a few minutes) and look at what it calls healthy
	$(BIN)/python -m pytest -q -m slow tests/test_notebook.py

wheel-test: $(READY) ## build the wheel, install it in a fresh environment, start it from an empty directory
	rm -rf build/wheel && mkdir -p build/wheel/empty
	$(BIN)/python -m pip wheel --quiet $(PIP_FLAGS) --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet $(PIP_FLAGS) $(TORCH)
	build/wheel/venv/bin/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt build/wheel/heed-*.whl
	cd build/wheel/empty && ../venv/bin/heed --help

clean: ## remove what was built, but no run
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
