# One line per check, as cargo-nextest prints them, and a count at the end.
passed=0
failed=0

say() { printf '     %s\n' "$*"; }

fail() { printf 'compose: %s\n' "$*" >&2; exit 1; }

# check NAME FUNCTION: runs it in a subshell that stops at the first failing command.
check() {
  local name=$1 function=$2 start end result
  start=$(date +%s%N)
  # Not in an `if`: that would switch `set -e` off inside.
  set +e
  (
    set -eE
    trap 'echo "failed: $BASH_COMMAND (${BASH_SOURCE##*/}:$LINENO)"' ERR
    "$function"
  ) >"$work/check.log" 2>&1
  result=$?
  set -e
  end=$(date +%s%N)
  if [ "$result" = 0 ]; then
    passed=$((passed + 1))
    printf '        PASS [%4d.%03ds] compose %s\n' $(((end - start) / 1000000000)) $(((end - start) / 1000000 % 1000)) "$name"
  else
    failed=$((failed + 1))
    printf '        FAIL [%4d.%03ds] compose %s\n' $(((end - start) / 1000000000)) $(((end - start) / 1000000 % 1000)) "$name"
    sed 's/^/             /' "$work/check.log" | tail -40
  fi
}

# await SECONDS COMMAND…: until it succeeds; its last output is shown if it never does.
await() {
  local until=$((SECONDS + $1)) output
  shift
  until output=$("$@" 2>&1); do
    if [ "$SECONDS" -ge "$until" ]; then
      printf 'gave up waiting for: %s\n%s\n' "$*" "$output"
      return 1
    fi
    sleep 0.5
  done
}

# absent COMMAND…: fails if it succeeds; what it said is in $work/refused.
# (`!` in front of a command is exempt from `set -e`.)
absent() {
  if "$@" >"$work/refused" 2>&1; then
    printf 'should have failed: %s\n' "$*"
    cat "$work/refused"
    return 1
  fi
}
