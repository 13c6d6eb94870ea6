# Every target sets up what it needs: a virtual environment in .venv, with the pinned versions.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CANDIDATES := $(PYTHON) python3.12 python3.13 python3.14 python3 python

BASE := HEAD
FOLDER := study

.DEFAULT_GOAL := help
.PHONY: demo test test-notebooks test-slow check docs bench bench-compare study notebooks clean help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */|/' | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

demo: $(STAMP)  ## Run the demonstration
	$(BIN)/python scripts/demo.py

test: $(STAMP)  ## Run the tests, without the slow ones and the notebooks, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-notebooks: $(STAMP)  ## Run every notebook and the example of the README, in two processes
	$(BIN)/python -m pytest -n 2 -m notebook tests/test_notebooks.py tests/test_readme.py

test-slow: $(STAMP)  ## Run the simulation studies, which take minutes
	$(BIN)/python -m pytest -m slow

check: $(STAMP)  ## Check style, types and structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_structure.py

docs: $(STAMP)  ## Build the documentation site in docs/_build/html; warnings are errors
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html

bench: $(STAMP)  ## Run the benchmarks, those of other packages included
	$(BIN)/python -m benchmarks

bench-compare: $(STAMP)  ## Hold the speed of the working tree against that of a commit: BASE=main
	$(BIN)/python -m benchmarks.compare $(BASE)

study: $(STAMP)  ## Hold empirical against full Bayes on real tables, as published; writes one table to FOLDER=study
	$(BIN)/python -m benchmarks.study $(FOLDER)

notebooks: $(STAMP)  ## Run the notebooks again, in place
	$(BIN)/jupyter-execute --inplace notebooks/*.ipynb

clean:  ## Remove the environment, caches and built files
	rm -rf $(VENV) .peers build dist docs/_build docs/reference *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A command of the right name may be a shim that fails, so each candidate has to prove its version. Some systems
# ship Python without ensurepip: there the system's pip puts pip into the environment.
# The build backend comes from the constraints too, hence no isolated build.
$(STAMP): pyproject.toml constraints.txt
	@set -e; found=; \
	for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "bayescombat needs Python 3.12 or newer; none works among: $(strip $(CANDIDATES))." >&2; \
	  echo "Install one, or name it: make PYTHON=path/to/python3.12 ..." >&2; \
	  exit 1; \
	fi; \
	echo "Setting up $(VENV): this downloads the libraries and takes some minutes, once."; \
	rm -rf $(VENV); \
	"$$found" -m venv $(VENV) >/dev/null 2>&1 || { \
	  "$$found" -m venv --clear --without-pip $(VENV); \
	  "$$found" -m pip --python $(BIN)/python install --quiet pip; \
	}
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e ".[test,docs]"
	@touch $@
