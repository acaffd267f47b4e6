# One virtual environment, made once; every target installs what it needs and nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "Rhetor needs Python 3.10, 3.11 or 3.12; choose one with: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[train,eval,dev]"
	@touch $@

demo: $(STAMP)
	@mkdir -p out
	$(BIN)/python infer/run.py --image examples/presenter.png --audio examples/speech.wav --output out/demo.mp4

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench: $(STAMP)
	$(BIN)/python benchmarks/video_flops.py --check
	$(BIN)/python benchmarks/video_step.py
	$(BIN)/python benchmarks/run_time.py

clean:
	rm -rf $(VENV) out build *.egg-info
