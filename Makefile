PYTHON ?= python

.PHONY: check format test slow recipes gpu docs bench

check:  ## format, lint, types, import contracts: what CI runs after the tests
	$(PYTHON) -m ruff format --check src tests benchmarks examples
	$(PYTHON) -m ruff check src tests benchmarks examples
	$(PYTHON) -m mypy
	lint-imports

format:
	$(PYTHON) -m ruff format src tests benchmarks examples
	$(PYTHON) -m ruff check --fix src tests benchmarks examples

test:
	$(PYTHON) -m pytest

slow:  ## minutes to an hour: kill tests, real evaluation sets, several ranks
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m "slow and not gpu and not network" -n 1 --durations=20

gpu:  ## equivalences, speed and memory on a CUDA device, in less than nine minutes
	$(PYTHON) benchmarks/gpu/run.py --json benchmarks/gpu/results.json

recipes:  ## every tiny recipe from the command line, resumable: benchmarks/recipes/results.json
	OMP_NUM_THREADS=1 $(PYTHON) benchmarks/recipes/run.py

docs:
	$(PYTHON) -m mkdocs build --strict

bench:  ## every benchmark in its short form
	for area in quickstart data losses training mining evaluation; do \
	  $(PYTHON) benchmarks/$$area/run.py --quick || exit 1; done
