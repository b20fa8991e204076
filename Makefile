# Every target creates the virtual environment if it is missing, from the interpreter PYTHON.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo test test-slow lint gpu-check bench results pictures audit locks clean

demo: $(READY)
	$(BIN)/face demo

# On all processors. The tests of a file run in one process, because they share fixtures.
test: $(READY)
	$(BIN)/python -m pytest -m "not slow" --numprocesses logical --maxprocesses 4 --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Correctness and speed of everything that runs on a GPU; without a GPU, tiny sizes on the CPU. Without a network, run
# python benchmarks/gpu_check.py --wheels FOLDER with the Python that has torch.
gpu-check: $(READY)
	$(BIN)/python benchmarks/gpu_check.py

# The stages and the control on MovieLens-100K with three seeds; appends records and updates the tables.
bench: $(READY)
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.report

# Write the tables of benchmarks/README.md and README.md from benchmarks/results/*.jsonl.
results: $(READY)
	$(BIN)/python -m benchmarks.report

# Draw benchmarks/pictures/*. Pictures of commands need the run of `make demo`, those of pages a Chromium on the PATH.
pictures: $(READY)
	$(BIN)/python -m benchmarks.pictures

# Known vulnerabilities of the tested versions (queries PyPI), and the licences of all installed packages.
audit: $(READY)
	$(BIN)/python -m pip install --quiet 'pip-audit>=2.7'
	$(BIN)/python -m tests.licences
	$(BIN)/pip-audit --skip-editable --progress-spinner off

# Write docker/requirements-*.txt; run with Python 3.11 on linux/amd64.
LOCK := -m pip install --quiet --dry-run --ignore-installed
locks: $(READY)
	$(BIN)/python $(LOCK) --extra-index-url https://download.pytorch.org/whl/cpu --report build-cpu.json \
	  -c constraints.txt 'setuptools>=77' '.[cpu,demo]'
	grep -v '^faiss-cpu' constraints.txt > build-cuda.txt
	$(BIN)/python $(LOCK) --report build-cuda.json -c build-cuda.txt 'setuptools>=77' '.[gpu,demo]'
	for kind in cpu cuda; do $(BIN)/python docker/lock.py build-$$kind.json > docker/requirements-$$kind.txt; done
	rm build-cpu.json build-cuda.json build-cuda.txt

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu,demo,dev,bench,plot]'
	touch $(READY)

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
