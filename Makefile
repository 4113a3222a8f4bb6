# make demo    set up an environment and run the demo, into runs/demo
# make test    set up an environment from nothing where it is stale, then check everything
# make lint    the checks without the tests
# make bench   measure speed, into benchmarks/out/bench.json (make bench-quick: in under five minutes)
# make clean   remove what these made

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check install --constraint $(CONSTRAINTS)

.PHONY: demo test lint bench bench-quick clean

demo: $(VENV)/.demo
	$(BIN)/nmg demo --out runs/demo

test: lint
	$(BIN)/pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.demo
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.demo
	$(BIN)/python -m benchmarks --quick

# The stamps tell when an environment was set up, and with what.
$(VENV)/.dev: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --editable '.[dev]'
	command -v chromium chromium-browser google-chrome || $(BIN)/playwright install chromium || true  # else pages stay untested
	touch $(VENV)/.demo $@

$(VENV)/.demo: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[demo]'
	touch $@

clean:
	rm -rf $(VENV) runs/demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/out
	find src tests -name __pycache__ -prune -exec rm -rf {} +
