# The commands of the README. Each can be run on a fresh Debian 12 machine with Rust.

.PHONY: vm-test-arm screen-test bench-start dist soak aarch64 test-aarch64 deps test-deps train-deps build build-train tensorrt demo deb test test-memory test-train test-tensorrt-rtx test-kiosk yocto-lint vm-test hil-test lint bench bench-capture bench-outbox bench-fleet bench-page bench-peer measure-gate measure-domain bench-train bench-calibrate docs deny

# What building and running need, and is not there yet: Debian packages, and ONNX Runtime in .deps.
deps:
	@scripts/deps.sh

# The same, and the MQTT broker mosquitto.
test-deps:
	@scripts/deps.sh test

# The same, and libtorch in .deps (540 MB to fetch), for training.
train-deps:
	@scripts/libtorch.sh

build: deps
	cargo build --release

# anemia-train with everything that needs libtorch: cv, qat, fit and locate.
build-train: train-deps
	cargo build --release --package anemia-trainer --features torch

# The shim, on a board, against the TensorRT that is installed there; `sudo make -C crates/tensorrt/shim install` installs it.
tensorrt:
	$(MAKE) -C crates/tensorrt/shim

# Ten exams, from a rendered eye to a message at a broker.
demo: deps
	cargo run --release --package anemiad -- demo

test: test-deps
	cargo test --workspace

# The unsafe code around TensorRT under valgrind, which sees the shim, too, and with Rust's address sanitizer (which the stable
# compiler has, and hides): no wrong access, nothing lost.
test-memory:
	@scripts/deps.sh memory
	CARGO_TARGET_$(shell uname -m | tr a-z A-Z)_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite" \
		cargo test --package anemia-tensorrt --test run
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --package anemia-tensorrt --test run \
		--target $(shell rustc -vV | sed -n 's/^host: //p') --target-dir $${CARGO_TARGET_DIR:-target}/sanitized

# The trainer with libtorch: lints and tests.
test-train: train-deps
	cargo clippy --package anemia-trainer --features torch --all-targets -- --deny warnings
	cargo test --package anemia-trainer --features torch

# NVIDIA's TensorRT-RTX (170 MB to fetch) reads the networks of models and builds plans from them; no GPU is needed.
test-tensorrt-rtx:
	scripts/tensorrt-rtx.sh
	ANEMIA_TENSORRT_RTX=$(CURDIR)/.deps/tensorrt-rtx/libanemia_tensorrt.so \
		cargo test --package anemia-engine --test tensorrt_rtx -- --nocapture

# The page of the kiosk in a headless Chromium, which it installs: exams by click, keyboard and MQTT, languages, accessibility.
test-kiosk: deps
	@scripts/deps.sh kiosk
	cargo test --package anemiad --test kiosk

# The recipes of the Yocto layer, without building anything: see yocto/README.md.
yocto-lint: deps
	scripts/yocto-lint.sh

# The daemon for the boards, in target/aarch64/aarch64-unknown-linux-gnu/release: cross-built, for glibc 2.27 and newer, and
# without the broker that only the demo needs.
aarch64: deps
	scripts/aarch64.sh build --release --package anemiad --no-default-features

# The daemon for the boards, with its demo, under qemu-user: what it asks of a board's system, and whether its verdicts are those
# of this machine.
test-aarch64: deps
	@scripts/deps.sh aarch64
	scripts/aarch64.sh build --release --package anemiad
	ANEMIAD_AARCH64=$(abspath $(or $(CARGO_TARGET_DIR),target))/aarch64/aarch64-unknown-linux-gnu/release/anemiad \
		cargo test --package anemiad --test aarch64 -- --nocapture

# Everything of a release, in dist/: packages and programs for PCs and boards, what is in them, and sums. From the same sources and
# the same tools, wherever they are, it makes the same bytes.
dist: train-deps
	@scripts/deps.sh deb
	@scripts/deps.sh aarch64
	scripts/dist.sh

# The Debian packages for this machine, in dist/local, as far as their programs are built.
deb: build
	@scripts/deps.sh deb
	scripts/deb.sh

# The kiosk as a whole in a virtual machine: package, unit, camera, broker, faults, a power cut; and the packages of a workstation.
# STEPS="unplug power-cut" runs some of the steps, CYCLES=20 shortens those that repeat something, LOGS=folder keeps the console.
vm-test: export ANEMIA_TRAIN_RPATH = /usr/lib/anemia-train/libtorch/lib
vm-test: train-deps
	@scripts/deps.sh vm
	cargo build --release --package anemiad
	cargo build --release --package anemia-calibrator
	cargo build --release --package anemia-trainer --features torch
	ANEMIA_HIL=vm ANEMIAD=$${CARGO_TARGET_DIR:-$(CURDIR)/target}/release/anemiad \
		cargo test --package anemiad --test hil -- $(STEPS)

# The same on a machine with an ARM processor, with the program for the boards.
vm-test-arm: deps
	@scripts/deps.sh vm
	@scripts/deps.sh aarch64
	@scripts/deps.sh vm-arm
	cargo build --release --package anemiad
	scripts/aarch64.sh build --release --package anemiad --no-default-features
	ANEMIA_HIL=arm ANEMIAD=$${CARGO_TARGET_DIR:-$(CURDIR)/target}/release/anemiad \
		ANEMIAD_AARCH64=$${CARGO_TARGET_DIR:-$(CURDIR)/target}/aarch64/aarch64-unknown-linux-gnu/release/anemiad \
		cargo test --package anemiad --test hil -- $(STEPS)

# The page on the screen of such a machine: package, browser, clicks and keys before an emulated screen.
screen-test: deps
	@scripts/deps.sh vm
	cargo build --release --package anemiad
	ANEMIA_HIL=screen ANEMIAD=$${CARGO_TARGET_DIR:-$(CURDIR)/target}/release/anemiad cargo test --package anemiad --test hil

# The same on a board that has the package, as far as nobody needs to touch it: make hil-test BOARD=user@host
hil-test: deps
	@test -n "$(BOARD)" || { echo "usage: make hil-test BOARD=user@host" >&2; exit 2; }
	ANEMIA_HIL=$(BOARD) cargo test --package anemiad --test hil -- $(STEPS)

# Formatting, lints and documentation, all without a warning.
lint: deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps

# Time of every stage on one core, and pictures per second; what an inference costs beyond TensorRT's own work.
bench: deps
	cargo bench --package anemiad --bench pipeline
	cargo bench --package anemia-tensorrt --bench overhead

# Pictures of cameras to RGB here, in libyuv and in GStreamer's videoconvert, and what capturing costs.
bench-capture: deps
	@scripts/deps.sh bench-capture
	cargo bench --package anemiad --bench capture

# A backlog of 100 000 results: storing, opening, replaying to a mosquitto of this machine.
bench-outbox: test-deps
	@scripts/deps.sh bench-outbox
	cargo bench --package anemiad --bench outbox

# 2000 kiosks and one mosquitto on this machine: make bench-fleet KIOSKS=200 MINUTES=1 is a short one.
bench-fleet: test-deps
	cargo bench --package anemiad --bench fleet

# What a busy kiosk sees in 24 hours, with faults, in a quarter of an hour: EXAMS=50 is a short one.
soak: test-deps
	cargo bench --package anemiad --bench soak

# From the start of the process to READY, and the memory it then has.
bench-start: test-deps
	cargo bench --package anemiad --bench start

# The page of the kiosk: first paint, its pictures, and exams while 20 pages are open.
bench-page: deps
	@scripts/deps.sh kiosk
	cargo bench --package anemiad --bench page

# The work on a frame here and in a Python service with OpenCV and ONNX Runtime (which it fetches into .deps).
bench-peer: deps
	scripts/bench-peer.sh

# How far pictures can be spoilt before the verdict changes, and what the quality gate says; writes docs/pictures/gate*.svg.
measure-gate: deps
	PLOTS=$(CURDIR)/docs/pictures cargo bench --package anemiad --bench gate > $${CSV:-/dev/null}

# Outlines by people against outlines by the locator: make measure-domain RUN=… (folder of a run of anemia-train locate).
measure-domain: deps
	cargo bench --package anemiad --bench domain

# One epoch of MobileNetV2 here and in PyTorch (which it fetches into .deps), and the growth of the search for copies.
bench-train: train-deps
	scripts/bench-train.sh

# int8 here and by ONNX Runtime's quantize_static (which it fetches into .deps): make bench-calibrate RUN=… DATA=…
bench-calibrate: deps
	scripts/bench-calibrate.sh

# Writes the reference pages that come from the program's own types.
docs: deps
	UPDATE_DOCS=1 cargo test --package anemiad --test documents

# Licences, sources and versions of all dependencies, against deny.toml.
deny: deps
	scripts/deny.sh
