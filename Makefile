# The commands of the README. Each can be run on a fresh Debian 12 machine with Rust.

.PHONY: deps test-deps build demo test lint bench docs deny

# What building and running need, and is not there yet: Debian packages, and ONNX Runtime in .deps.
deps:
	@scripts/deps.sh

# The same, and the MQTT broker mosquitto.
test-deps:
	@scripts/deps.sh test

build: deps
	cargo build --release

# Ten exams, from a rendered eye to a message at a broker.
demo: deps
	cargo run --release --package anemiad -- demo

test: test-deps
	cargo test --workspace

# Formatting, lints and documentation, all without a warning.
lint: deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps

# Time of every stage on one core, and pictures per second.
bench: deps
	cargo bench --package anemiad --bench pipeline

# Writes the reference pages that come from the program's own types.
docs: deps
	UPDATE_DOCS=1 cargo test --package anemiad --test documents

# Licences, sources and versions of all dependencies (needs `cargo install cargo-deny`).
deny:
	cargo deny check licenses bans sources
