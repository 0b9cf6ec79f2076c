# `make demo` and `make test` need Python 3.11 or newer, make, git and a compiler; everything else goes to .venv.
MODERN := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for one in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$one -c '$(MODERN)' 2>/dev/null && echo $$one && break; done)
VENV := .venv
BIN := $(VENV)/bin
SUITES := $(sort $(basename $(notdir $(wildcard suites/*.py))))
RUNS := build/runs
# -qq: pip's remarks about how this machine finds packages would drown the rest; its errors still show.
# --no-compile: pip compiles on one core; `compileall` after it on all.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt
# Some packages hold files of older Pythons, as examples.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib >/dev/null 2>&1 || true

.DEFAULT_GOAL := help
.PHONY: help demo test nightly style lint gate bench accuracy reports clean

help:
	@echo "make demo   install into $(VENV), diagnose two networks, write a page"
	@echo "make test   install into $(VENV), then ruff, mypy and pytest"
	@echo "make nightly  what takes too long for every change: a long training, thousands of random networks and commands"
	@echo "make lint   ruff and mypy only"
	@echo "make gate   hold the suite quick to reports/quick: does training still work as it did?"
	@echo "make bench  what watching costs, in time and memory"
	@echo "make accuracy  how often the diagnosis is right, on the corpus: the first time two hours on one core; reports/accuracy/"
	@echo "make reports  run every suite in full, an hour or two on two cores, and write reports/"
	@echo "make clean  remove $(VENV) and what the tools left"

demo: $(VENV)/.demo
	$(BIN)/diag demo

# mypy runs beside pytest: it takes one core and a minute.
test: style
	@echo "mypy and pytest"
	@$(BIN)/mypy >.mypy.log 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -n auto --maxprocesses 8; tests=$$?; \
	wait $$types; lint=$$?; cat .mypy.log; rm -f .mypy.log; \
	exit $$((tests || lint))

nightly: $(VENV)/.dev
	$(PIP) -e '.[triton]'
	$(BIN)/python -m pytest -m nightly
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=nightly

style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style
	$(BIN)/mypy

# The project's own regressions: the suite `quick` held to its baseline in reports/.
gate: $(VENV)/.dev
	rm -rf build/gate
	$(BIN)/diag run quick --output build/gate
	$(BIN)/diag gate build/gate --baseline reports/quick

bench: $(VENV)/.dev
	DIAG_COST_REPORT=reports/cost $(BIN)/python -m pytest tests/benchmarks/bench_*.py -p no:xdist

# What was measured stays in build/accuracy: after a change of the rules alone it takes minutes.
accuracy: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.corpus.accuracy

# Exit code 1 is a claim that does not hold, which is what the reports are there to say.
reports: $(VENV)/.dev
	$(BIN)/diag run $(SUITES) --output $(RUNS) || [ $$? = 1 ]
	$(BIN)/diag report $(addprefix $(RUNS)/,$(SUITES)) --gallery reports
	$(BIN)/python -m tests.benchmarks.gate_rates

clean:
	rm -rf $(VENV) build dist diag-demo diag-runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

$(VENV)/.python:
	@[ -n "$(PYTHON)" ] && $(PYTHON) -c '$(MODERN)' || \
	{ echo "diag needs Python 3.11 or newer: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing into $(VENV): minutes the first time, since torch is large"
	$(PIP) -e '.[suites,fast]'
	$(COMPILE)
	@touch $@

# The development install contains the demo's, so the demo need not install again after it.
$(VENV)/.dev: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing into $(VENV): minutes the first time, since torch is large"
	$(PIP) -e '.[dev]'
	$(COMPILE)
	@touch $(VENV)/.demo $@
