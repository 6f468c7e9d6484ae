#!/bin/sh
# The version of everything that the project releases, from the one place where it stands.
sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml"
