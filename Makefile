# One command for each thing: make demo | quick | install | check | docs | test | bench
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

export HF_POSMINE_OFFLINE ?= 1

.PHONY: demo quick install check format docs test bench clean

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

docs: $(STAMP)  ## the pages as HTML in out/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs out/docs

test: $(STAMP)  ## all tests, doctests and README examples
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

bench: $(STAMP)  ## ratios against the peer, as JSON and tables in out/bench
	$(BIN)/python -m benchmarks.mining --output out/bench
	$(BIN)/python -m benchmarks.encoding --output out/bench
	$(BIN)/python -m benchmarks.embedder --output out/bench
	$(BIN)/python -m benchmarks.training --output out/bench

clean:
	rm -rf $(VENV) out
