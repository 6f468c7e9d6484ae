#!/usr/bin/env bash
# Makes a release in dist/: see `make dist`.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
# Others than the pinned one would be linked.
unset LIBTORCH
[ -z "$(git status --porcelain)" ] || echo "dist: the sources differ from the last commit, whose time is taken" >&2
version=$(scripts/version.sh)
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/dist
# Into a folder beside, so that dist/ never has a part of a release.
folder=$PWD/dist.partial
rm -rf "$folder"
mkdir "$folder"

# What writes licences and parts lists, compiled once.
tools=$PWD/.deps/dist-tools
install_tool() { # CRATE VERSION OPTION…
    cargo install --quiet --locked --root "$tools" --target-dir "$target/tools" "$1" --version "$2" "${@:3}"
}
install_tool cargo-about 0.9.3 --features cli
install_tool cargo-cyclonedx 0.5.9
PATH=$tools/bin:$PATH

# The same bytes, wherever the sources are and whenever it is made.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
home=$(realpath "${CARGO_HOME:-$HOME/.cargo}")
flags=
for pair in "$PWD=/anemiad" "$home=/cargo" "$target=/target"; do
    flags+=" --remap-path-prefix=$pair"
    CFLAGS="${CFLAGS:-} -ffile-prefix-map=$pair"
done
export CFLAGS CXXFLAGS=$CFLAGS
build() { CARGO_TARGET_DIR=$target RUSTFLAGS=$flags "$@"; }
# Where anemia-train-setup puts libtorch.
export ANEMIA_TRAIN_RPATH=/usr/lib/anemia-train/libtorch/lib

# The packages have them in them.
licences=$folder/THIRD-PARTY-LICENCES.txt
cargo about generate --locked --all-features --workspace --config scripts/about.toml scripts/about.hbs >"$licences"

build cargo build --release --locked --package anemiad
build cargo build --release --locked --package anemia-calibrator
build cargo build --release --locked --package anemia-trainer --features torch
scripts/deb.sh "$folder" "$target/release"
build scripts/aarch64.sh build --release --locked --package anemiad --no-default-features
board=$target/aarch64/aarch64-unknown-linux-gnu/release
scripts/deb.sh "$folder" "$board" arm64
size=$(stat -c %s "$board/anemiad")
[ "$size" -le 15000000 ] || { echo "dist: the program for the boards has $size bytes, more than 15 MB" >&2; exit 1; }

# The archive that the recipe of Yocto takes.
name=anemiad-$version-aarch64
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install -D -m 755 "$board/anemiad" "$work/$name/bin/anemiad"
install -D -m 644 .deps/onnxruntime-arm64/libonnxruntime.so "$work/$name/lib/libonnxruntime.so"
install -m 644 .deps/onnxruntime-arm64/LICENSE "$work/$name/lib/libonnxruntime-LICENSE"
install -m 644 .deps/onnxruntime-arm64/ThirdPartyNotices.txt "$work/$name/lib/libonnxruntime-ThirdPartyNotices.txt"
install -m 644 LICENSE "$licences" "$work/$name"
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu -C "$work" -c "$name" |
    gzip -9n >"$folder/$name.tar.gz"

# What is in the programs (CycloneDX), and beside them. cargo-cyclonedx writes a file into the folder of each crate.
parts() { # NAME PROGRAM FOLDER MACHINE OPTION…
    cargo cyclonedx --quiet --manifest-path "$3/Cargo.toml" --format json --spec-version 1.5 \
        --target "$4-unknown-linux-gnu" "${@:5}" --override-filename sbom.partial
    python3 scripts/sbom.py "$3/sbom.partial.json" "$folder/$1.cdx.json" "$2" "$4"
    rm -f {daemon,trainer,calibrator,crates/*}/sbom.partial.json
}
parts "anemiad-$version-x86_64" anemiad daemon x86_64
parts "anemiad-$version-aarch64" anemiad daemon aarch64 --no-default-features
parts "anemia-calibrate-$version" anemia-calibrate calibrator x86_64
parts "anemia-train-$version" anemia-train trainer x86_64 --features torch

(cd "$folder" && sha256sum -- * >SHA256SUMS)
rm -rf dist
mv "$folder" dist
ls -l dist
