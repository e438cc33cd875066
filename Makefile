# What a person types. `make` alone lists it.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test bench bench-rules bench-shadows memory kills soak restart idle deb cross fmt check deny clean \
	test-deps test-format test-yocto test-clippy test-rust test-msrv test-binaries test-stories \
	test-browser test-deb

RUST := packaging/with-rust
TARGET ?= aarch64-unknown-linux-gnu
ARGS ?=
NODE := tests/clients/node_modules/.ready
say = @printf '\n== %s\n'

help:
	@echo "make run     build the gateway and start it on its embedded default (ARGS=... for iotedged)"
	@echo "make test    install what the tests need, and run all of them"
	@echo "make test-browser  a page in chromium talks to the gateway; installs chromium"
	@echo "make test-rabbitmq the bridge and a real RabbitMQ; installs it"
	@echo "make bench   compare with mosquitto and rumqttd on this machine (ARGS=... for benches/run.py)"
	@echo "make bench-rules    a rule beside a bare JSON parse, 1,000 rules beside one, memory of a rule"
	@echo "make bench-shadows  device shadows beside bare SQLite, and what 100,000 of them cost"
	@echo "make bench-c  libiotedge beside libmosquitto: rates and memory of a client"
	@echo "make bench-bridge   the bridge beside mosquitto's and bare SQLite, and bytes to the disk"
	@echo "make bench-policy  what a policy decision costs, alone and on the way of a publish"
	@echo "make kills   SIGKILL during mixed traffic, 200 times with each way to sync"
	@echo "make soak    ten minutes of clients that come and go: memory does not grow"
	@echo "make restart a million queued messages: ready in two seconds, memory does not hold them"
	@echo "make bridge-histories  1,000 histories of the bridge on a simulated clock and disk"
	@echo "make backlog a million messages for an upstream: ready in two seconds, 20 MB, drained in order"
	@echo "make bridge-kills  50 histories of faults between bridge and upstream, with SIGKILLs"
	@echo "make shadow-histories  100,000 histories of a shadow here and in the cloud, over a bad link"
	@echo "make power-cuts  2,000 power cuts on a disk that keeps only what was synced, with each way to sync"
	@echo "make idle    10,000 connections that say nothing: memory and processor time"
	@echo "make memory  memory alone and with 1,000 clients, beside mosquitto"
	@echo "make size    libiotedge.so as released: under 3 MB"
	@echo "make deb     iotedge, libiotedge1 and libiotedge-dev for this architecture, in dist/"
	@echo "make cross   the release binaries for TARGET=$(TARGET), with cross"
	@echo "make check   format, lints and walls: the quick part of the tests"
	@echo "make fmt     format the code"
	@echo "make deny    licences and bans of all that is linked, with cargo-deny"

# The profile "fast" is optimised but without LTO: a release build takes a Raspberry Pi too long
# for a first try.
run:
	@$(RUST) cargo build --locked --profile fast -p iotedge
	@ln -sf iotedged target/fast/iotedgectl
	@exec target/fast/iotedged --dev $(ARGS)

fmt:
	@$(RUST) cargo fmt --all

check: test-format test-yocto test-clippy
	@$(RUST) cargo test --locked -q -p iotedge-tests --test walls

deny:
	@command -v cargo-deny >/dev/null || { echo "cargo install --locked cargo-deny, then again"; exit 1; }
	@cargo deny --locked check

# The tests, from the cheap to the dear. Debug builds in one target directory.
test: test-deps test-format test-yocto test-clippy test-rust test-msrv test-binaries test-stories \
	test-fuzz test-deb
	$(say) "all tests passed"

test-deps: .venv/ready $(NODE)
	@. packaging/apt.sh && apt_install gcc libc6-dev mosquitto mosquitto-clients nats-server socat valgrind \
		openssl curl iproute2 faketime libmbedtls-dev softhsm2 pkg-config

.venv/ready: tests/requirements.txt
	$(say) "Python for the stories"
	@python3 -m venv --clear .venv >/dev/null 2>&1 || { \
		. packaging/apt.sh && apt_install python3-venv && python3 -m venv --clear .venv; }
	@.venv/bin/pip install -q -r tests/requirements.txt \
		|| .venv/bin/pip install -q -r tests/requirements.txt
	@touch $@

# MQTT.js. Node may be Debian's or another.
$(NODE): tests/clients/package-lock.json
	$(say) "JavaScript for the stories"
	@command -v node >/dev/null && command -v npm >/dev/null || { \
		. packaging/apt.sh && apt_install nodejs npm; }
	@cd tests/clients && { npm ci --silent --no-audit --no-fund || npm ci --no-audit --no-fund; }
	@touch $@

test-format:
	$(say) "format"
	@$(RUST) cargo fmt --all --check

test-yocto:
	@yocto/update-crates.sh --check

test-clippy:
	$(say) "clippy"
	@$(RUST) cargo clippy --locked --workspace --all-targets -- -D warnings

test-rust:
	$(say) "tests of the rooms and the walls"
	@$(RUST) cargo test --locked --workspace

test-msrv:
	$(say) "the oldest Rust we promise"
	@$(RUST) .ci/msrv

test-binaries:
	@$(RUST) cargo build --locked -p iotedge -p iotedge-ffi

test-stories: .venv/ready $(NODE) test-binaries
	$(say) "stories: the real binaries from outside"
	@.venv/bin/python -m pytest -q tests/stories tests/mqtt tests/robustness tests/bridge $(ARGS)
	$(if $(ARGS),,$(say) "the conformance suite once more: in WebSocket frames")
	$(if $(ARGS),,@.venv/bin/python -m pytest -q tests/mqtt --transport ws)

# Not a part of `make test`: a browser is half a gigabyte.
test-browser: .venv/ready $(NODE) test-binaries
	@command -v chromium >/dev/null || { . packaging/apt.sh && apt_install chromium; }
	@.venv/bin/python -m pytest -q tests/browser $(ARGS)

# Not a part of `make test`: Erlang is 100 MB.
.PHONY: test-rabbitmq
test-rabbitmq: .venv/ready test-binaries
	@test -x /usr/lib/rabbitmq/bin/rabbitmq-server || { . packaging/apt.sh && apt_install rabbitmq-server; }
	@.venv/bin/python -m pytest -q tests/bridge/test_rabbitmq.py $(ARGS)

# The packages' layout does not depend on optimisation: debug binaries do.
test-deb: test-binaries
	$(say) "the Debian packages in a fresh root"
	@packaging/test-chroot.sh target/debug

bench:
	@. packaging/apt.sh && apt_install mosquitto python3
	@$(RUST) cargo build --locked --release -p iotedge
	@$(RUST) cargo build --locked --release -p iotedge-benches --features peers
	@python3 benches/run.py $(ARGS)

# The long form of the simulation of two replicas.
.PHONY: shadow-histories
shadow-histories:
	@SHADOW_HISTORIES=100000 $(RUST) cargo test --locked --release -p iotedge-shadow --test sync_simulation -- --nocapture

bench-rules:
	@$(RUST) cargo bench --locked -q -p iotedge-rules --bench rules

bench-shadows:
	@$(RUST) cargo build --locked --release -p iotedge -p iotedge-benches
	@python3 benches/shadows.py $(ARGS)

# libiotedge beside libmosquitto.
.PHONY: bench-c
bench-c:
	@. packaging/apt.sh && apt_install mosquitto libmosquitto-dev gcc libc6-dev python3 openssl
	@$(RUST) cargo build --locked --release -p iotedge-ffi
	@python3 benches/clients.py --check $(ARGS)

.PHONY: bench-bridge
bench-bridge:
	@. packaging/apt.sh && apt_install mosquitto python3
	@$(RUST) cargo build --locked --release -p iotedge -p iotedge-benches
	@python3 benches/bridge.py $(ARGS)
	@$(RUST) cargo bench --locked -q -p iotedge-store --bench flash

memory:
	@. packaging/apt.sh && apt_install mosquitto python3 openssl
	@$(RUST) cargo build --locked --release -p iotedge
	@python3 benches/memory.py --check $(ARGS)

# What a decision costs alone, and on the way of a publish.
.PHONY: bench-policy
bench-policy:
	@. packaging/apt.sh && apt_install valgrind python3
	@$(RUST) cargo build --locked --release -p iotedge
	@$(RUST) cargo build --locked --release -p iotedge-benches --bin bench-policy
	@target/release/bench-policy
	@python3 benches/authorization.py

# A short look for each parser and the session machine; `make fuzz FUZZ_SECONDS=600` for a long one.
FUZZ_SECONDS ?= 12
test-fuzz:
	$(say) "fuzz targets, $(FUZZ_SECONDS) seconds each"
	@. packaging/apt.sh && apt_install g++
	@$(RUST) fuzz/run $(FUZZ_SECONDS) $(ARGS)

.PHONY: test-fuzz fuzz
fuzz: FUZZ_SECONDS = 600
fuzz: test-fuzz

# The long forms of tests/robustness, on an optimised daemon. ARGS=... for pytest.
robustness = IOTEDGE_BIN_DIR=target/release $(1) .venv/bin/python -m pytest -q -s -o faulthandler_timeout=0 \
	$(ARGS) tests/robustness/$(2)

kills: .venv/ready release
	@$(call robustness,IOTEDGE_KILLS=200,test_kill_dash_nine.py)

soak: .venv/ready release
	@$(call robustness,IOTEDGE_SOAK_SECONDS=600,test_soak.py)

restart: .venv/ready release
	@$(call robustness,IOTEDGE_RESTART_MESSAGES=1000000,test_restart.py)

idle: .venv/ready release
	@$(call robustness,IOTEDGE_IDLE_CONNECTIONS=10000 IOTEDGE_IDLE_SECONDS=30,test_idle.py)

# The long forms of tests/bridge.
bridge = IOTEDGE_BIN_DIR=target/release $(1) .venv/bin/python -m pytest -q -s -o faulthandler_timeout=0 \
	$(ARGS) tests/bridge/$(2)

.PHONY: bridge-histories backlog bridge-kills power-cuts
bridge-histories:
	@HISTORIES=1000 $(RUST) cargo test --locked -p iotedge-bridge --test histories -- --nocapture

backlog: .venv/ready release
	@$(call bridge,IOTEDGE_BACKLOG=1000000,test_backlog.py)

bridge-kills: .venv/ready release
	@$(call bridge,IOTEDGE_HISTORIES=50,test_histories.py)

power-cuts: .venv/ready release
	@$(call bridge,IOTEDGE_POWER_CUTS=2000,test_power_cuts.py)

.PHONY: release
release:
	@$(RUST) cargo build --locked --release -p iotedge

# libiotedge.so has to stay under 3 MB; a release build is stripped.
SMALL = test $$(stat -c %s target/release/libiotedge.so) -lt 3000000 || { \
	ls -l target/release/libiotedge.so; echo "libiotedge.so is larger than 3 MB" >&2; exit 1; }

.PHONY: size
size:
	@$(RUST) cargo build --locked --release -p iotedge-ffi
	@$(SMALL)
	@ls -l target/release/libiotedge.so

deb:
	@. packaging/apt.sh && apt_install dpkg-dev binutils
	@$(RUST) cargo build --locked --release -p iotedge -p iotedge-ffi
	@$(SMALL)
	@packaging/build-deb.sh target/release dist

cross:
	@command -v cross >/dev/null || { echo "needs cross and docker or podman: cargo install --locked cross"; exit 1; }
	@cross build --locked --release --target $(TARGET) -p iotedge -p iotedge-ffi
	@ls -l target/$(TARGET)/release/iotedged target/$(TARGET)/release/libiotedge.so

clean:
	@rm -rf target dist .venv
