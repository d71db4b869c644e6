# Two commands: `make demo` and `make test`. Each makes the environment in .venv if need be; either may come first.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/.core
	$(BIN)/reid demo -o demo

test: .venv/.dev
	$(BIN)/python scripts/milvus || test -n "$${REID_STORES+given}"
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

.venv/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/.dev: .venv/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-milvus demo
