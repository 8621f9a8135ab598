# Two commands: `make run` and `make test`. Everything lives in .venv; a stamp remembers what was installed, so the
# second run needs no network. Paths are relative and quoted: the checkout may lie under a folder with spaces.

SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
FUZZ_STAMP := $(VENV)/.installed-fuzz
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

# The whole tree with hashes where requirements.lock was made for this Python's platform; elsewhere the direct pins. The
# interpreter is asked, not the machine: on a Mac it may be an Intel one that is translated.
PLATFORM = $(shell $(PY) -c 'import platform; print(platform.system(), platform.machine(), sep="-")')
REQUIREMENTS = $(if $(filter Linux-x86_64 Darwin-arm64,$(PLATFORM)),requirements.lock,requirements.txt)

.PHONY: run install test proof-short check faults attack fuzz load-archive journeys bench load demo lock mutants help

help:
	@echo "make run      set up and start SecondRead on http://localhost:8501"
	@echo "make install  set up what make run needs, and start nothing"
	@echo "make test     set up and run the tests that take ten minutes together"
	@echo "make proof-short  the product in a browser, and attacked, killed, fuzzed; the full check is check, test and this"
	@echo "make check    format, lint, types and code that nobody calls"
	@echo "make journeys the files that three journeys through the code pass"
	@echo "make faults   kill processes at random moments and judge what they left (docs/reliability.md)"
	@echo "make fuzz     try a million odd inputs on everything that reads what others wrote (docs/security.md)"
	@echo "make attack   ask every door of a running server as everybody and judge the answers (docs/security.md)"
	@echo "make load-archive  let 1,000 studies arrive while two people read (docs/integration.md)"
	@echo "make bench    benchmarks, as ratios, into docs/benchmarks.md"
	@echo "make load     fifty readers at one server, the start and the first answers, into docs/benchmarks.md"
	@echo "make demo     start with three demo users and synthetic studies"
	@echo "make mutants  change lines at random and count what the tests notice; hours, goes on where it was stopped"
	@echo "make lock     make requirements.lock anew from requirements.txt; asks the package index"

run: $(RUN_STAMP)
	@$(PY) -m streamlit run app.py

# A service may not write beside the sources, and would compile them at every start.
install: $(RUN_STAMP)
	@$(PY) -m compileall -q core pages train

demo: $(RUN_STAMP)
	@SECONDREAD_DEMO=1 SECONDREAD_STATE_DIR="$${SECONDREAD_STATE_DIR:-.state/demo}" $(PY) -m streamlit run app.py

# What takes longest, and is proven for a release rather than after every change: the product in a browser, networks that
# are run and fitted, workers that are killed, every file of the zoos, states of earlier versions, other people's servers,
# pages whose drawing asks models or an archive, all tests collected once more;
PRODUCT := tests/browser tests/upgrade tests/deploy/test_proxies.py tests/deploy/test_services.py \
	tests/contract/test_collection.py tests/pages/test_pages_archive.py tests/pages/test_pages_reader_studies.py \
	tests/pages/test_pages_reader.py tests/pages/test_second_read_panel.py tests/pages/test_measured_findings.py \
	tests/pages/test_marking.py \
	tests/core/models/test_shipped_models.py tests/core/models/test_architectures.py \
	tests/core/commands/test_read_command.py tests/core/imaging/test_zoo.py tests/core/imaging/test_suitability.py \
	tests/train/fitting tests/train/publishing tests/train/queue/test_worker.py tests/train/queue/test_import_jobs.py
# and the short runs of what is proven with much time elsewhere (make attack, faults, fuzz), the way to an archive and
# back, and a cluster with its trainings and replicas.
PROOFS := tests/attack tests/faults tests/fuzz tests/load tests/core/archive/test_archive_round_trip.py \
	tests/train/queue/test_cluster.py tests/train/queue/test_cluster_head.py \
	tests/train/queue/test_cluster_workers.py tests/train/queue/test_partition.py \
	tests/core/serving/test_replicas_on_ray.py

test: $(DEV_STAMP)
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(PRODUCT) $(PROOFS))

proof-short: $(DEV_STAMP)
	@$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PRODUCT)
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PROOFS)

check: $(DEV_STAMP)
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(PY) -m vulture

journeys: $(DEV_STAMP)
	@$(PY) tests/journeys.py

KILLS := 500
SEED := 1
FOLDER := .state/faults
faults: $(DEV_STAMP)
	@$(PY) tests/faults/kill_rounds.py --kills $(KILLS) --seed $(SEED) --folder "$(FOLDER)"

FUZZ_FOLDER := .state/fuzz
SHARE := 1
JOBS := 1
fuzz: $(FUZZ_STAMP)
	@$(PY) tests/fuzz/fuzz_rounds.py --folder "$(FUZZ_FOLDER)" --seed $(SEED) --share $(SHARE) --jobs $(JOBS)

attack: $(DEV_STAMP)
	@$(PY) tests/attack/attack.py

STUDIES := 1000
VIEWS := 4
FULL :=
load-archive: $(DEV_STAMP)
	@$(PY) tests/load/archive_load.py --studies $(STUDIES) --views $(VIEWS) $(FULL)

bench: $(RUN_STAMP)
	@$(PY) -m core bench --write
	@$(PY) -m train bench --write

READS := 1000
load: $(DEV_STAMP)
	@$(PY) tests/load/load.py --write --reads $(READS)

mutants: $(DEV_STAMP)
	@$(PY) tests/mutants.py

# The interpreter: the newest of 3.13, 3.12, 3.11 that can make a virtual environment; PYTHON=… chooses another.
$(PY):
	@set -e; \
	for candidate in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then \
	      echo "Making $(VENV) with $$candidate"; "$$candidate" -m venv $(VENV); exit 0; \
	    else found="$$candidate"; fi; \
	  fi; \
	done; \
	if [ -n "$$found" ]; then \
	  echo "$$found cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv" >&2; \
	else \
	  echo "SecondRead needs Python 3.11, 3.12 or 3.13, and none was found. Install one, or say PYTHON=/path/to/python." >&2; \
	fi; exit 1

$(RUN_STAMP): requirements.txt requirements.lock | $(PY)
	@echo "Installing $(REQUIREMENTS) (some minutes the first time)"
	@$(PY) -c 'import pip' 2>/dev/null || $(PY) -m ensurepip >/dev/null  # an interrupted start left none
	@$(PIP) $(if $(filter %.lock,$(REQUIREMENTS)),--require-hashes --only-binary :all:) -r $(REQUIREMENTS)
	@touch $@

# The lock without its hashes is a constraint: no tool of the tests changes what the product runs on.
$(DEV_STAMP): requirements.txt requirements.lock requirements-dev.txt requirements-mlflow.txt requirements-openvino.txt \
  requirements-cluster.txt | $(RUN_STAMP)
	@$(PIP) -r requirements-dev.txt -c <(sed -n '/^[a-z0-9]/s/ \\$$//p' requirements.lock)
	@touch $@

# Its tools alone: a bare machine needs none of the tests' for it.
$(FUZZ_STAMP): requirements.txt requirements.lock requirements-fuzz.txt | $(RUN_STAMP)
	@$(PIP) -r requirements-fuzz.txt -c <(sed -n '/^[a-z0-9]/s/ \\$$//p' requirements.lock)
	@touch $@

# Versions that are in the lock stay; delete the file first to take the newest of everything. The second command refuses
# a tool of the tests that cannot live with the lock on this machine.
lock: | $(PY)
	@$(PIP) "$$(grep -o '^uv==[0-9.]*' requirements-dev.txt)"
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes \
	  --default-index https://pypi.org/simple --custom-compile-command "make lock" \
	  requirements.txt --output-file requirements.lock
	@$(VENV)/bin/uv pip compile --quiet --python-version 3.11 --default-index https://pypi.org/simple \
	  requirements-dev.txt --constraint requirements.lock >/dev/null
