# Two commands for newcomers:
#   make demo               install the run side, find the scenes of a rendered clip, track a ball, results in demo/
#   make demo VIDEO=my.mp4  the same for a video of yours
#   make test               install everything, then lint, check types and run the tests

# The first interpreter that is there, new enough and able to make environments; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.10 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	&& echo "$$python" && break; done)

# Paths are relative and commands are run as modules, so the folder may have any name, with dashes and spaces.
PIP_INSTALL = -m pip install --disable-pip-version-check --constraint constraints.txt

FOLDERS = sdk runtimes models export tests examples
# Folder by folder, because each folder of tests may have a conftest.py of its own.
TYPED = $(filter-out tests/__pycache__/,$(wildcard tests/*/)) examples

# A file of tests stays together, because what its tests share is made once for each process.
BESIDE = --numprocesses auto --maxprocesses 4 --dist loadfile

CLIP = demo/clip.mp4
ifeq ($(origin VIDEO),undefined)
VIDEO = $(CLIP)
NEEDED_CLIP = $(CLIP)
# A ball on the clip's first frame; in a video of yours it is something else: make demo VIDEO=my.mp4 BOX=40,60,120,200
BOX = 1040,459,1135,554
endif
export VIDEO

.PHONY: demo test clean

demo: .venv/installed $(NEEDED_CLIP)
	@mkdir -p demo
	.venv/bin/python -m vsdk run "$$VIDEO" \
		--jsonl demo/events.jsonl --sheet demo/scenes.png --video demo/annotated.mp4
	test -z "$(BOX)" || .venv/bin/python -m vsdk track "$$VIDEO" --box "$(BOX)" \
		--jsonl demo/masks.jsonl --video demo/tracked.mp4

$(CLIP): examples/render_demo_clip.py .venv/installed
	@mkdir -p demo
	.venv/bin/python examples/render_demo_clip.py --out $@

test: .venv-test/installed
	.venv-test/bin/python -m ruff check $(FOLDERS)
	.venv-test/bin/python -m ruff format --check $(FOLDERS)
	.venv-test/bin/python -m mypy
	for folder in $(TYPED); do .venv-test/bin/python -m mypy "$$folder" || exit 1; done
	.venv-test/bin/python -m pytest $(BESIDE)

.venv/installed: EXTRAS = cpu
.venv-test/installed: EXTRAS = dev

.venv/installed .venv-test/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.10 or newer with venv and pip was found; name one: \
		make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing vsdk[$(EXTRAS)] into $(@D), once; this downloads packages."
	"$(PYTHON)" -m venv --clear $(@D)
	$(@D)/bin/python $(PIP_INSTALL) --quiet --editable '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf .venv .venv-test demo
