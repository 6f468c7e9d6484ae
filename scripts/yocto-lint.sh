#!/usr/bin/env bash
# Checks yocto/ without building anything: oelint-adv on all recipes for both releases, BitBake's own parser, kas, and
# that what the recipes install is there. It fetches these tools into .deps/yocto; they are for Python 3.11.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=.deps/yocto
requirements=yocto/requirements.txt
if ! cmp -s "$requirements" "$folder/installed-from"; then
    echo "yocto-lint: fetching oelint-adv, BitBake's parser and kas"
    rm -rf "$folder"
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: \
        --require-hashes --target "$folder" --requirement "$requirements"
    cp "$requirements" "$folder/installed-from"
fi
export PYTHONPATH=$PWD/$folder PYTHONDONTWRITEBYTECODE=1

# Rules that do not fit, and why. Single places are marked where they are, by `nooelint`.
suppress=(
    # The version is in Cargo.toml and not in the names of recipes.
    --suppress oelint.file.underscores
    # The project has no page of its own.
    --suppress oelint.var.mandatoryvar.HOMEPAGE
)
mapfile -t recipes < <(find yocto/meta-anemia -name '*.bb' -o -name '*.bbappend' | sort)
for release in kirkstone scarthgap; do
    python3 -m oelint_adv --release "$release" --quiet --relpaths --hide info "${suppress[@]}" "${recipes[@]}"
done
echo "yocto-lint: oelint-adv has nothing to say about ${#recipes[@]} files, for kirkstone and scarthgap"

python3 yocto/crates.py --check
python3 yocto/check.py
