# make demo           set up an environment and run the demo into runs/demo
# make test           set up a new environment if it is stale, then check everything
# make lint           run the checks without the tests
# make supply-chain   write a bill of materials and known vulnerabilities of installed packages into dist/
# make hashes         write the hashes that CI checks into .ci/requirements.txt; needs a network
# make test-install   build wheel and sdist and try them in clean environments; needs a network and minutes
# make release        build wheel and sdist into dist/, check them, and try the wheel; needs a network and minutes
# make site           build the documentation as a site into site/
# make zoo            list which architectures work in benchmarks/out/zoo.md; takes minutes
# make bench          measure speed into benchmarks/out/bench.json
# make bench-quick    the same with fewer rounds, in under five minutes
# make clean          remove everything that these commands made

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check install --constraint $(CONSTRAINTS)

# Install only files with known hashes: make test HASHES=.ci/requirements.txt
HASHES ?=

.PHONY: demo test lint supply-chain hashes test-install release site zoo bench bench-quick clean

demo: $(VENV)/.demo
	$(BIN)/nmg demo --out runs/demo

# Two processes, each on one thread: most tests train models that are too small for more threads.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

supply-chain: $(VENV)/.dev
	$(BIN)/python .ci/supply_chain.py $(BIN)/python dist

# Leaves out torch and the packages of its CUDA build: the CPU build, which CI prefers, has other files.
hashes: $(VENV)/.dev
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev --no-annotate --no-header \
		--constraint $(CONSTRAINTS) --output-file $(VENV)/hashes.txt pyproject.toml
	$(BIN)/python .ci/without_torch.py $(VENV)/hashes.txt > .ci/requirements.txt

test-install: $(VENV)/.dev
	$(BIN)/pytest -m slow tests/test_install.py

# Uploads nothing: afterwards, `twine upload dist/nmg-*`.
release:
	$(PYTHON) .ci/release.py dist

site: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

zoo: $(VENV)/.dev
	$(BIN)/python -m benchmarks.zoo --out benchmarks/out/zoo.md

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.dev
	$(BIN)/python -m benchmarks --quick

# The stamps tell when an environment was set up, and with what.
$(VENV)/.dev: pyproject.toml $(CONSTRAINTS) $(HASHES)
	$(PYTHON) -m venv --clear $(VENV)
	$(if $(HASHES),$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes --no-deps --requirement $(HASHES))
	$(PIP) --editable '.[dev]'
	command -v chromium chromium-browser google-chrome || $(BIN)/playwright install chromium || true  # else pages stay untested
	touch $(VENV)/.demo $@

$(VENV)/.demo: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[demo]'
	touch $@

clean:
	rm -rf $(VENV) runs/demo dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/out
	find src tests -name __pycache__ -prune -exec rm -rf {} +
