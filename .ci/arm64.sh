#!/usr/bin/env bash
# Runs tests on Linux arm64 under qemu-user: .ci/arm64.sh [files or folders]   (default: test)
# Or any program: .ci/arm64.sh --bun ARGUMENTS...
#
# The C library comes from Debian's cross packages. qemu-user cannot start an arm64 program from an arm64 program
# without binfmt_misc, so tests put EMDB_TEST_EXEC in front of what they start (test/support/platform.ts).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

packages qemu-user libc6-arm64-cross libgcc-s1-arm64-cross libstdc++6-arm64-cross
bun="$(bun_package bun-linux-aarch64)/bin/bun"
# qemu-user walks over every page of a reservation: of so little address space each takes 256 MiB at most.
# EMDB_ARM64_ADDRESSES=all leaves it all to the tests that are about address space.
[ "${EMDB_ARM64_ADDRESSES:-}" = all ] || ulimit -v $((31 * 1024 * 1024))
emulate=(qemu-aarch64 -L /usr/aarch64-linux-gnu)

export EMDB_TEST_EMULATOR=qemu EMDB_TEST_EXEC="${emulate[*]}"
if [ "${1:-}" = --bun ]; then
  shift
  exec "${emulate[@]}" "$bun" "$@"
fi
[ -d "$ROOT/node_modules" ] || (cd "$ROOT" && native_bun install --frozen-lockfile)
cd "$ROOT"
# Building takes the emulated Bun minutes.
built=$(mktemp -d "$CACHE/built-arm64.XXXXXX")
trap 'rm -rf "$built"' EXIT
native_bun test/workers/forms.ts "$built" bun-linux-arm64 "$bun"
export EMDB_TEST_FORMS="$built"
native_bun scripts/suite.ts "Linux arm64 (qemu)" "${emulate[@]}" "$bun" -- "$@"
