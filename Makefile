# make run    everything set up, and the main job running at http://127.0.0.1:8000 (PORT=8123 DATA=folder to change it)
# make test   everything set up, and every check
# make test-slow   what takes minutes: doctor behind real proxies, what only time shows
# make test-long   what takes minutes each and a quiet machine: planted faults in the scripts, planted leaks, the image's steps,
#                  systemd's units in a system that is booted for them
# make lint   the checks that start nothing
# make manifests  every overlay built into build/manifests/ and checked, with no cluster
# make chaos  everything that goes wrong, at random: SEED=7 FOR=600 (seconds); its last line says what was lost
# make soak   whether memory, files, threads or keys grow under coming and going: FOR=1800 (seconds); its last line says what each gains
# make bench  the figures, two minutes each at most (ONLY=flood one of them, ONLY=takeover ten minutes,
#             ONLY=saved 25); docs/performance.md is made from them
PORT ?= 8000
DATA ?= data

.PHONY: run test test-slow test-long lint manifests bench chaos soak
.DEFAULT_GOAL := run

run:
	@scripts/setup run
	@exec .venv/bin/progress-stream dev --host 127.0.0.1 --port "$(PORT)" --data "$(DATA)"

# TESTS=tests/store picks some; PYTEST_ARGS adds options.
test: lint
	@exec .venv/bin/pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS) $(TESTS)

test-slow:
	@scripts/setup test
	@exec .venv/bin/pytest -m slow -n 2 --dist loadgroup $(PYTEST_ARGS) tests

test-long:
	@scripts/setup test
	@exec .venv/bin/pytest -m long $(PYTEST_ARGS) tests

lint:
	@scripts/setup test
	@scripts/lint

manifests:
	@scripts/setup test
	@.venv/bin/python -m tests.manifests
	@exec .venv/bin/pytest -q $(PYTEST_ARGS) tests/manifests

ONLY ?= flood many resume idle connect append track slow listed whole stored growth listing page spread processes report shards
bench:
	@scripts/setup test
	@scripts/system-packages bench
	@set -e; for one in $(ONLY); do echo "== $$one"; .venv/bin/python -m "benchmarks.$$one"; done

SEED ?= 1
FOR ?= 60
chaos:
	@scripts/setup test
	@exec .venv/bin/python -m tests.chaos.rounds --seed "$(SEED)" --seconds "$(FOR)"

soak: FOR = 1800
soak:
	@scripts/setup test
	@exec .venv/bin/python -m tests.chaos.soak --seconds "$(FOR)"
