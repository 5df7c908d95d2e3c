# SPDX-License-Identifier: Apache-2.0
# Each target makes what it needs first: `make demo` or `make test` may be the first command on a fresh machine.
PYTHON ?= python3
PREFIX ?= /opt/dpd
BIN := .venv/bin
ENVIRONMENT := .venv/.installed
PACKAGES := .venv/.packages

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench zipapp install clean

help:
	@echo "make demo     everything on this machine in about a minute; IMAGE=my.wim RECEIVERS=8 are optional"
	@echo "make test     the whole suite; ARGS='-k tftp' goes to pytest. As root: installs the Debian packages it lacks"
	@echo "make lint     ruff, mypy --strict, lint-imports"
	@echo "make bench    every bench, short, beside its peers"
	@echo "make zipapp   dist/dpd-receive.pyz: the receiver for Python's standard library alone"
	@echo "make install  as root: $(PREFIX), systemd units, /etc/dpd/dpd.toml, the user dpd; EXTRAS=bus with NATS"
	@echo "make clean    remove what the others made"

$(ENVIRONMENT): pyproject.toml .ci/install-python
	@PYTHON="$(PYTHON)" .ci/install-python
	@touch $@

$(PACKAGES): $(ENVIRONMENT) .ci/debian-packages .ci/install-packages
	@.ci/install-packages
	@touch $@

demo: $(ENVIRONMENT)
	@$(BIN)/dpd demo $(if $(IMAGE),--image "$(IMAGE)") $(if $(RECEIVERS),--receivers "$(RECEIVERS)")

test: $(ENVIRONMENT) $(PACKAGES)
	@.ci/test $(ARGS)

lint: $(ENVIRONMENT)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy --strict
	@contracts=$$($(BIN)/lint-imports --no-cache) || { echo "$$contracts"; exit 1; }

bench: $(ENVIRONMENT) $(PACKAGES)
	@$(BIN)/python -m bench.transfer_simulated --quick
	@$(BIN)/python -m bench.tftp --quick
	@$(BIN)/python -m bench.http_files --quick
	@$(BIN)/python -m bench.transfer_netns --quick
	@$(BIN)/python -m bench.publish --quick
	@$(BIN)/python -m bench.pull --quick

zipapp: $(ENVIRONMENT)
	@mkdir -p dist
	@$(BIN)/python -m dpd.target.bundle dist/dpd-receive.pyz
	@echo dist/dpd-receive.pyz

install:
	@test "$$(id -u)" -eq 0 || { echo "make install needs root: sudo make install" >&2; exit 1; }
	$(PYTHON) -m venv "$(PREFIX)"
	"$(PREFIX)/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade ".$(if $(EXTRAS),[$(EXTRAS)])"
	ln -sf "$(PREFIX)/bin/dpd" /usr/local/bin/dpd
	install -D -m 644 systemd/dpd.sysusers /usr/lib/sysusers.d/dpd.conf
	install -D -m 644 systemd/dpd.tmpfiles /usr/lib/tmpfiles.d/dpd.conf
	install -D -m 644 systemd/dpd.service /etc/systemd/system/dpd.service
	sed -i 's|/usr/bin/dpd|$(PREFIX)/bin/dpd|' /etc/systemd/system/dpd.service
	test -e /etc/dpd/dpd.toml || install -D -m 644 config/dpd.toml /etc/dpd/dpd.toml
	systemd-sysusers dpd.conf
	systemd-tmpfiles --create dpd.conf
	test ! -d /run/systemd/system || systemctl daemon-reload

clean:
	rm -rf .venv dist build demo-data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
