#!/usr/bin/env bash
# Runs tests on Windows x64 under Wine: .ci/wine.sh [files or folders]   (default: test)
# Or any program: .ci/wine.sh --bun ARGUMENTS...
#
# Bun for Windows needs bcryptprimitives.dll, which Debian's Wine lacks: prng.c stands in for it. The Wine prefix is
# one of our own, so that nothing of the user's Wine is touched. Z: is the file system's root.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

packages wine wine64 gcc-mingw-w64-x86-64
home="$CACHE/wine-$BUN_VERSION"
export WINEPREFIX="$home/prefix" WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml="

install_wine() {
  mkdir -p "$home/bin"
  cp "$(bun_package bun-windows-x64)/bin/bun.exe" "$home/bin/"
  x86_64-w64-mingw32-gcc -O2 -shared -s -o "$home/bin/bcryptprimitives.dll" "$ROOT/.ci/prng.c" -ladvapi32
  wine wineboot --init </dev/null >/dev/null 2>&1
  wineserver -w
  touch "$home/ready"
}
# Two runs may start at once; the lock's descriptor must not reach Wine, which would hold on to it.
exec 9>"$CACHE/wine.lock"
flock 9
[ -f "$home/ready" ] || install_wine 9>&-
exec 9>&-

# The server and its services start here, with no pipe of ours in hand, and outlive the last program by a minute. Most
# system calls wait for them, so where we may say so they go before the tests: what waits is then some three times as fast.
nice -n -15 wineserver -p60 </dev/null >/dev/null 2>&1 || true
nice -n -15 wine cmd /c exit </dev/null >/dev/null 2>&1

export EMDB_TEST_EMULATOR=wine
if [ "${1:-}" = --bun ]; then
  shift
  exec wine "$home/bin/bun.exe" "$@"
fi
[ -d "$ROOT/node_modules" ] || (cd "$ROOT" && native_bun install --frozen-lockfile)
cd "$ROOT"
# Bun cannot copy itself into a new executable under Wine, nor write a bundle: the Bun of this machine builds for it.
built=$(mktemp -d "$CACHE/built-windows.XXXXXX")
trap 'rm -rf "$built"' EXIT
native_bun build --compile --target=bun-windows-x64 --compile-executable-path="$home/bin/bun.exe" \
  test/package/compiled-program.ts --outfile "$built/compiled.exe" >/dev/null || echo "test/package/compiled-program.ts does not compile"
native_bun test/workers/forms.ts "$built/forms" bun-windows-x64 "$home/bin/bun.exe"
# The stand-in DLL is found by every executable.
export EMDB_TEST_COMPILED="Z:$built/compiled.exe" EMDB_TEST_FORMS="Z:$built/forms" WINEPATH="Z:$home/bin"
native_bun scripts/suite.ts "Windows x64 (Wine)" wine "$home/bin/bun.exe" -- "$@"
