#!/usr/bin/env bash
# Ends the five processes that run-all.sh started, in the reverse order, and Kafka if run-all.sh started it. What the shop
# keeps stays. RUN_DIR as for run-all.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Longer than a role takes to settle what it has accepted.
readonly STOP_S_MAX=30
readonly ROLES=(gateway order payment product user)
RUN_DIR=${RUN_DIR:-${TMPDIR:-/tmp}/microcommerce-roles}

say() { printf 'shop: %s\n' "$*"; }

pid_of() { # role; nothing when it does not run
    local pid
    pid=$(cat "$RUN_DIR/$1.pid" 2>/dev/null) || return 0
    if ps -o args= -p "$pid" 2>/dev/null | grep -q -- "--role $1"; then echo "$pid"; fi
}

status=0
for role in "${ROLES[@]}"; do
    pid=$(pid_of "$role")
    if [ -n "$pid" ]; then
        kill -TERM "$pid"
        began=$SECONDS
        while [ -n "$(pid_of "$role")" ]; do
            if [ $((SECONDS - began)) -ge "$STOP_S_MAX" ]; then
                say "the $role did not end within $STOP_S_MAX s; killed (nothing acknowledged is lost)"
                kill -KILL "$pid"
                status=1
                break
            fi
            sleep 0.1
        done
    fi
    rm -f "$RUN_DIR/$role.pid"
done
if [ -e "$RUN_DIR/kafka-is-ours" ]; then
    bash deploy/local/kafka.sh stop
    rm -f "$RUN_DIR/kafka-is-ours"
fi
say "closed; its data are in $RUN_DIR"
exit "$status"
