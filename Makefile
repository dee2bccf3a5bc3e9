# k8snet_nb: `make lab` opens the lessons, `make test` checks everything. Works with GNU make 3.81 and later.
PYTHON_IN_VENV := .venv/bin/python
ARGS ?=
export PYTHON

.PHONY: help lab test check setup refresh docs lock bench clean
.DEFAULT_GOAL := help

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

lab: setup ## Open JupyterLab at the first lesson (ARGS=--no-browser over ssh)
	@$(PYTHON_IN_VENV) -m k8snet_nb.cli lab $(ARGS)

test: check ## Lint, types, import contract, unit and browser tests, strict run of every notebook (ARGS=-x ...)
	@$(PYTHON_IN_VENV) -m pytest -n auto --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=60 tests notebooks $(ARGS)

check: setup ## Only ruff, mypy and the import contract
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m ruff format --check .
	@$(PYTHON_IN_VENV) -m mypy
	@.venv/bin/lint-imports --no-logo

setup: ## Make or renew .venv from requirements.lock (PYTHON=... chooses the Python)
	@./tools/setup.sh

refresh: setup ## Execute every notebook again and write it back in its canonical form
	@$(PYTHON_IN_VENV) tools/refresh_notebooks.py $(ARGS)

docs: setup ## Write the API reference, from docstrings, into site/
	@$(PYTHON_IN_VENV) tools/build_docs.py $(ARGS)

lock: ## Resolve requirements.lock anew (ARGS=--upgrade takes newer versions)
	@./tools/lock.sh $(ARGS)

bench: setup ## Run the benchmarks; each prints ratios
	@set -e; for script in benchmarks/*.py; do \
		[ -f "$$script" ] || continue; echo "== $$script"; $(PYTHON_IN_VENV) "$$script" $(ARGS); done

clean: ## Remove .venv, caches and build products
	@rm -rf .venv build dist site artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
