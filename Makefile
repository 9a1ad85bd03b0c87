# make demo   logs -> a chatter, on the sample chat, in a few minutes
# make test   lint and tests
# make lint   ruff alone
# make bench  time all stages beside other tools and write bench/README.md; bench-parse, -tokenize, -train, -generate: one
# make bench-quality   compare the chatter with n-grams and a Markov chain; bench-memory: what fits on which GPU
# make bench LOGS=data/logs   the same, also on your own chat
# make gpu    prove on a GPU, in ten minutes, what no CPU shows; without one a rehearsal; RUN=python3 takes no .venv
# make soak   kill the scripts, fill their disk and damage their input
# make bench QUICK=1   run all benches on small inputs, to see that they work; make soak QUICK=1: a few tries of each fault
# make notebook   runs notebook.ipynb from top to bottom, in place, in three minutes
# make constraints     renew the versions of all packages, after a change in requirements.txt
# Each sets up .venv first, if that is needed.

PYTHON ?= python3
RUN := .venv/bin/python

.PHONY: demo test lint bench gpu soak notebook sample constraints clean

demo: .venv/installed
	rm -rf data/demo models/demo
	$(RUN) parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw
	$(RUN) tokenize_logs.py --input-dir data/demo/raw --output-dir data/demo/tokenized_datasets \
		--model models/tiny-gpt2 --block-size 128
	$(RUN) train.py --dataset-dir data/demo/tokenized_datasets --model models/tiny-gpt2 \
		--output-dir models/demo/gpt2-twitch-chatter --batch-size 12 --micro-batch-size 12 --learning-rate 3e-3 --device cpu
	$(RUN) generate.py "what game is this?" --model models/demo/gpt2-twitch-chatter -n 5

test: lint
	$(RUN) -m pytest --numprocesses 2 --dist worksteal

lint: .venv/installed-tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# With QUICK=1 nothing is saved, so there is no report to write.
bench: bench-parse bench-tokenize bench-train bench-generate $(if $(QUICK),bench-quality)
	$(if $(QUICK),,$(RUN) bench/report.py)

bench-%: .venv/installed-tests
	$(RUN) bench/bench_$*.py $(if $(QUICK),--quick) $(if $(LOGS),--logs-dir $(LOGS))

gpu: $(if $(filter .venv/%,$(RUN)),.venv/installed)
	$(RUN) bench/gpu.py

soak: .venv/installed-tests
	$(RUN) bench/soak.py $(if $(QUICK),--quick)
	$(if $(QUICK),,$(RUN) bench/report.py)

notebook: .venv/installed-tests
	.venv/bin/jupyter nbconvert --to notebook --execute --inplace notebook.ipynb
	$(RUN) bench/notebook_figures.py

# What is committed in data/sample_logs and models/tiny-gpt2, made anew.
sample: .venv/installed
	$(RUN) data/make_sample_logs.py
	$(RUN) parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw
	$(RUN) models/make_tiny_gpt2.py

# What a fresh environment gets from the requirements alone; torch's CPU and CUDA builds share one version.
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
	rm -rf .venv data/demo models/demo
