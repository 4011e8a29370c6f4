# One command for each thing: make demo | quick | install | check | test | bench
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

export HF_POSMINE_OFFLINE ?= 1

.PHONY: demo quick install check format test bench clean

demo: $(STAMP)  ## mine the embedded sample with the embedded teacher
	$(BIN)/hf-posmine demo --output out/demo

quick: $(STAMP)  ## mine the sample, train both stages, compare with the untrained student
	$(BIN)/python recipes/quick/run.py

install: $(STAMP)  ## create the environment

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test,check,bench]'
	rm -f $(VENV)/.installed-*
	touch $@

check: $(STAMP)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(STAMP)  ## all tests, doctests and README examples
	$(BIN)/pytest

bench: $(STAMP)  ## ratios against the peer, as JSON and tables in out/bench
	$(BIN)/python -m tests.benchmarks.mining --output out/bench
	$(BIN)/python -m tests.benchmarks.encoding --output out/bench
	$(BIN)/python -m tests.benchmarks.embedder --output out/bench
	$(BIN)/python -m tests.benchmarks.training --output out/bench

clean:
	rm -rf $(VENV) out
