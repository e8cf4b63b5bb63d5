# Everything from a fresh machine with Python 3.11 or newer, make and a package index.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
PYTEST := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 $(PY) -m pytest -n 2 --dist loadfile
# Python compiles what is imported when it is; compiling everything that is installed takes a minute and a half.
INSTALL := pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
ARGS ?=
OLDEST_TRL := 1.9.0

.DEFAULT_GOAL := help
.PHONY: help bench sweep test test-fast test-long test-trl browser check format clean

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

bench: $(VENV)/.installed ## Install, run the built-in comparison, print the report's path (ARGS="seed=1 ..." overrides settings)
	$(PY) -m bench $(ARGS)

sweep: $(VENV)/.installed ## Sweep DPO's beta in the built-in world and draw win rate and KL against it
	$(PY) -m bench -m experiment=beta_sweep dpo.beta=0.03,0.1,0.3,1 $(ARGS)
	$(PY) -m bench.report results/beta_sweep/*/

test: $(VENV)/.installed-dev ## Install and run all tests (ARGS="tests/data -k leak" picks some)
	$(PYTEST) $(ARGS)

test-fast: $(VENV)/.installed-dev ## The tests that take no training, within a minute
	$(PYTEST) -m "not slow" $(ARGS)

test-long: $(VENV)/.installed-dev ## The tests of minutes that make test leaves out: every architecture, every kind of damage
	$(PYTEST) -m long $(ARGS)

test-trl: $(VENV)/.installed-dev ## The trainers' tests with the oldest TRL that pyproject.toml allows; make test has the newest
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --target .trl/$(OLDEST_TRL) trl==$(OLDEST_TRL)
	PYTHONPATH=.trl/$(OLDEST_TRL) $(PYTEST) tests/train/test_pairwise.py tests/train/test_micro_batched.py \
	  tests/train/test_sft.py tests/train/test_rloo.py tests/train/test_checkpoints.py tests/train/test_few_steps.py

browser: ## A Chromium for the tests of the reports, from the distribution's packages, where there is none
	@command -v chromium || command -v chromium-browser || command -v google-chrome || command -v chrome || \
	  { command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y --no-install-recommends chromium; } || \
	  { echo "no apt-get here: install Chromium or Chrome and put it on PATH"; exit 1; }

check: $(VENV)/.installed-dev ## Formatting, lint and types of the package and its tests
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright

format: $(VENV)/.installed-dev ## Format the code and sort its imports
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## Remove the virtual environment and caches; results stay
	rm -rf $(VENV) .pytest_cache .ruff_cache

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m $(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PY) -m $(INSTALL) -e '.[dev]'
	@touch $@
