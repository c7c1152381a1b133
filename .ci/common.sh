# Shared by the scripts of this folder: where things are kept, and how a missing one is fetched.
# Sourced, not run. Everything lands in one cache folder, EMDB_CI_CACHE, beside nothing else.

set -euo pipefail
BUN_VERSION=1.4.5
OLDEST_BUN_VERSION=1.4.0
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${EMDB_CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/emdb-ci}
mkdir -p "$CACHE"

# packages NAME...: installs the Debian packages that are missing.
packages() {
  local missing=()
  local name
  for name in "$@"; do
    dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  echo "Installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # Another apt may hold the lock for a moment.
  local options=(-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
  apt-get "${options[@]}" update >/dev/null
  apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# bun_package NAME: unpacks Bun's npm package for another platform, once; prints its folder.
bun_package() {
  local folder="$CACHE/$1-$BUN_VERSION"
  if [ ! -d "$folder" ]; then
    local fresh
    fresh=$(mktemp -d "$CACHE/fetch.XXXXXX")
    (cd "$fresh" && npm pack --silent "@oven/$1@$BUN_VERSION" >/dev/null && tar xzf ./*.tgz)
    mv -T "$fresh/package" "$folder" 2>/dev/null || true
    rm -rf "$fresh"
  fi
  echo "$folder"
}

# native_bun ARGUMENTS...: Bun of this machine, from npm when there is none on the PATH.
native_bun() {
  if command -v bun >/dev/null 2>&1; then bun "$@"; else npx -y "bun@$BUN_VERSION" "$@"; fi
}
