# jobsd. On a fresh machine: make demo, make test. Needs git, make and Python 3.11 or newer; the rest comes with `make venv`.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= $(shell echo $$((2 * $$(nproc))))  # tests wait more than they compute
OULAD ?= $(wildcard ../shared/data/oulad)  # the whole set, where it is; else the extract in config/demo

BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
FIND313 = for p in python3.13 $(HOME)/.pyenv/versions/3.13*/bin/python3.13; do $$p -c 'import sys; print(sys.executable)' 2>/dev/null && break; done
PYTHON313 ?= $(shell $(FIND313))

.PHONY: help venv demo test check docs test-15 test-313 faults print-python313 clean

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(STAMP)  ## the virtual environment, with everything in it

demo: $(STAMP)  ## import real learning events, aggregate them, keep running; ARGS=--once ends when that is done
	@$(BIN)/jobsd demo $(if $(strip $(OULAD)),--data $(OULAD)) $(ARGS)

test: $(STAMP)  ## every test, in parallel, on an embedded PostgreSQL; ARGS="-k word" for some
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(STAMP)  ## style, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test-15: $(STAMP)  ## every test on Debian's PostgreSQL 15
	JOBSD_TEST_POSTGRES=15 $(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-313:  ## every test on Python 3.13, where there is one
	@test -n "$(PYTHON313)" || { echo "no python3.13 here; make test-313 PYTHON313=/path/to/python3.13"; exit 1; }
	$(MAKE) test VENV=.venv313 PYTHON=$(PYTHON313)

print-python313:
	@echo $(PYTHON313)

faults: $(STAMP)  ## random faults under load, and a count of what broke; ARGS="--seed 7 --faults 200"
	$(BIN)/python -m tests.faults.chaos $(ARGS)

docs: $(STAMP)  ## what of docs/ comes from the code: reference, coverage, JOBS.md
	$(BIN)/python -m docs.generate
	$(BIN)/jobsd --config config/jobsd.toml docs

clean:  ## everything that make and the demo made
	rm -rf .venv .venv313 .jobsd .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("jobsd needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python has no ensurepip here; on Debian: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'  # reads dependency groups
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded]' --group dev
	@touch $@
