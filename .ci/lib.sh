# What .ci/run and .ci/nightly share: running parts, counting, and the copy of the repository that belongs to nobody.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
if [[ $EUID -ne 0 ]]; then
  echo "$0: run it as root, for example: sudo --preserve-env env \"PATH=\$PATH\" $0" >&2
  echo '0 passed, 1 failed'
  exit 1
fi
logs=$PWD/.build/ci
rm -rf "$logs"
mkdir -p "$logs"
scratch=$(mktemp -d)
chmod 755 "$scratch"
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
mkdir -m 1777 "$scratch/tmp"
# Every program started from here has this in its environment. leftovers finds it there.
export TMPDIR=$scratch/tmp
export PATH=$PWD/.tools/bin:$PATH
export LISTEN_EXPORTER_SCREENSHOTS=$PWD/.build/screenshots
# Root on a machine with every tool may skip nothing.
export REPORTFLAGS=-may-skip=/dev/null

table=''
total_passed=0
total_failed=0
declare -A jobs

# NAME COMMAND ...: runs a command in the background. `collect NAME` waits for it.
begin() {
  local name=$1 file=$logs/${1//[^A-Za-z0-9]/-} started=$SECONDS
  shift
  { "$@" >"$file.log" 2>&1; echo "$? $((SECONDS - started))" >"$file.end"; } </dev/null &
  jobs[$name]=$!
}

# NAME: prints what a part printed. A part whose last line is "N passed, N failed" counts as that many, any other as one.
collect() {
  local name=$1 file=$logs/${1//[^A-Za-z0-9]/-} status seconds verdict=passed passed failed
  wait "${jobs[$name]}"
  read -r status seconds <"$file.end"
  printf '\n==> %s\n' "$name"
  grep -v '^go: downloading ' "$file.log"
  read -r passed failed < <(sed -nE '$s/^([0-9]+) passed, ([0-9]+) failed.*/\1 \2/p' "$file.log")
  if [[ $status -ne 0 ]]; then
    verdict=FAILED passed=${passed:-0}
    [[ ${failed:-0} -ne 0 ]] || failed=1
  fi
  total_passed=$((total_passed + ${passed:=1}))
  total_failed=$((total_failed + ${failed:=0}))
  table+=$(printf '%-44s %-7s %5d s %6d passed %4d failed' "$name" "$verdict" "$seconds" "$passed" "$failed")$'\n'
  printf '<== %s: %s\n' "$name" "$verdict"
}

# NAME COMMAND ...
part() {
  begin "$@"
  collect "$1"
}

# A copy of the repository that belongs to nobody, with an empty home and build cache. Only the modules are there already,
# in a cache that nobody can read.
home=$scratch/nobody
copy=$home/listen_exporter
# shellcheck disable=SC2034 # .ci/run and .ci/nightly use it
nobody=(
  env -C "$copy" setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs
  env -i "PATH=$copy/.tools/bin:$PATH" "HOME=$home" "TMPDIR=$home/tmp" "GOMODCACHE=$scratch/modules" GOPROXY=off
  "REPORTFLAGS=-may-skip=$home/passed"
)

make_copy() {
  local tool
  set -e
  mkdir -p "$copy/.tools/bin" "$home/tmp"
  git ls-files -z --cached --others --exclude-standard | xargs -0 tar -c --ignore-failed-read | tar -x -C "$copy"
  for tool in promtool kubectl jsonnet; do
    install -m 755 "$(command -v "$tool")" "$copy/.tools/bin/"
  done
  install -m 755 ".build/linux-$(go env GOARCH)/listen_exporter" "$home/released"
  # Nobody may skip what root passed.
  install -m 644 "$logs/passed" "$home/passed"
  chown -R 65534:65534 "$home"
  GOMODCACHE=$scratch/modules GOPROXY=file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY) go mod download
  chmod -R a+rX "$scratch/modules"
}

# Ends what this run started and is still running.
leftovers() {
  local environment pid left=0
  sleep 1
  for environment in /proc/[0-9]*/environ; do
    pid=${environment#/proc/} pid=${pid%/environ}
    if [[ $pid -ne $$ && $pid -ne $BASHPID ]] && grep -qsF "TMPDIR=$scratch" "$environment"; then
      echo "still running: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
      kill "$pid"
      left=1
    fi
  done
  return "$left"
}

finish() {
  part 'nothing left running' leftovers
  printf '\n%s%d s in all\n\n' "$table" "$SECONDS"
  printf '%d passed, %d failed\n' "$total_passed" "$total_failed"
  [[ $total_failed -eq 0 ]]
}
