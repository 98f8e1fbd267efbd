#!/usr/bin/env bash
# Checks what the program is built from against the registry and against deny.toml: versions that their authors have
# taken back, licences, sources, known vulnerabilities. Installs nothing; a check that cannot be done says why.
#
#   cargo install --locked cargo-deny && scripts/audit.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Only `install` looks up, with no compiling, whether a version in Cargo.lock was taken back; only with this variable
# does a stable cargo take the switch.
index=$(RUSTC_BOOTSTRAP=1 cargo install --path . --locked -Z unstable-options --dry-run 2>&1)
if grep "is yanked" <<<"$index"; then
    echo "withdrawn versions: found; cargo update takes others" >&2
    exit 1
fi
echo "withdrawn versions: none among $(grep --count '^source = ' Cargo.lock) dependencies"

if ! cargo deny --version >/dev/null 2>&1; then
    echo "skipped: licences, sources and advisories: there is no cargo-deny; cargo install --locked cargo-deny"
    exit 0
fi
cargo deny --log-level error check licenses bans sources
if ! cargo deny fetch db >/dev/null 2>&1; then
    echo "skipped: advisories: cannot reach the database of advisories, which no registry carries"
    exit 0
fi
cargo deny check advisories
