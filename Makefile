# make demo: install, train the embedded default, write a report and say where.
# make test: install what the tests need, and run all but the slow ones; nine to seventeen minutes on two cores.
# make test-all: install the extras, and run every test; about an hour. Those that need a browser or PyTorch say so.
# make test-versions: run what differs most between versions of Python and JAX: devices, checkpoints, studies, commands.
# make explore: the live page of a network that is already trained; draw a digit, and watch every layer.
# make docs: the page of settings, and the site in build/site, for which the lessons are executed.
# make soak: 300 kills, and 20,000 steps in each placement with the memory watched; half an hour. Prints tables.
# make check: ruff and mypy.
# make GPU=cuda13 demo: the same on an NVIDIA GPU (cuda12: an older driver), GPU=tpu on a TPU; it goes before any of these.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
GPU ?=
INSTALLED := $(VENV)/installed$(addprefix -,$(GPU))
EXTRAS := cuda12 cuda13 tpu cloud docs explore test-all

.PHONY: demo explore test test-all test-versions soak check lock docs clean

demo: $(INSTALLED)
	$(BIN)/python launch.py --experiment=lenet_digits

explore: $(INSTALLED) $(VENV)/installed-explore
	$(BIN)/python launch.py --mode=explore --init_from=lenet5_mnist

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: $(INSTALLED) $(VENV)/installed-test-all
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rs --hypothesis-profile=many

test-versions: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "versions and not slow"

soak: $(INSTALLED)
	$(BIN)/python tests/faults/soak.py

check: $(VENV)/installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check cnn_jax experiments tests
	$(BIN)/python -m mypy

# The lock covers Python 3.11 to 3.13; its ranges are in pyproject.toml.
$(VENV)/installed: requirements.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"Python {v[0]}.{v[1]} found, 3.11 to 3.13 needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-%: requirements-%.txt $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r $<
	touch $@

# The locks of the extras hold what they add, in versions that go with requirements.txt.
COMPILE := uv pip compile --universal --python-version 3.11 --no-header --no-emit-index-url pyproject.toml
lock:
	$(COMPILE) --extra test -o requirements.txt
	$(foreach extra,$(EXTRAS),$(COMPILE) --extra $(extra) --constraint requirements.txt -o requirements-$(extra).txt && ) true

docs: $(INSTALLED) $(VENV)/installed-docs
	$(BIN)/python -m cnn_jax.config.reference > docs/settings.md
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site
	@echo site build/site/index.html

clean:
	rm -rf $(VENV) runs
