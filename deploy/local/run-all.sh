#!/usr/bin/env bash
# The shop as five processes on this machine, talking over a real Kafka.
#
#   run-all.sh [--demo]     build, start Kafka (unless KAFKA_BROKER names one) and the five roles, wait until the shop is ready
#   stop-all.sh             end them in order
#
# Settings (environment), beside those of `microcommerce --help`:
#   KAFKA_BROKER       a broker that runs already; unset: deploy/local/kafka.sh starts one
#   KAFKA_VERSION      which Kafka that is (default 3.7.0)
#   MICROCOMMERCE      the binary to run (default: the release build of this checkout, made if it is missing or old)
#   RUN_DIR            logs and process ids (default: a folder in the temporary directory)
#   DATA_DIR           what the shop keeps (default: RUN_DIR/data)
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly READY_S_MAX=60
# The gateway last: it then finds the others at once.
readonly ROLES=(user product payment order gateway)
export RUN_DIR=${RUN_DIR:-${TMPDIR:-/tmp}/microcommerce-roles}
export DATA_DIR=${DATA_DIR:-$RUN_DIR/data}

say() { printf 'shop: %s\n' "$*"; }
fail() { printf 'shop: %s\n' "$*" >&2; exit 1; }

port_of() {
    case $1 in
        gateway) echo "${PORT:-8080}" ;;
        payment) echo "${PAYMENT_PORT:-8081}" ;;
        product) echo "${PRODUCT_PORT:-8082}" ;;
        user) echo "${USER_PORT:-8083}" ;;
        order) echo "${ORDER_PORT:-8084}" ;;
    esac
}

is_running() { # role
    local pid
    pid=$(cat "$RUN_DIR/$1.pid" 2>/dev/null) || return 1
    # The name of the program tells ours from a stranger that got the same process id.
    ps -o args= -p "$pid" 2>/dev/null | grep -q -- "--role $1"
}

ready() { # port
    local answer
    answer=$(timeout 2 bash -c '
        exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
        printf "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" >&3
        head -n 1 <&3' "$1" 2>/dev/null) || return 1
    [[ $answer == *" 200 "* ]]
}

for role in "${ROLES[@]}"; do
    is_running "$role" && fail "the $role runs already (process $(cat "$RUN_DIR/$role.pid")); deploy/local/stop-all.sh ends the shop"
done
arguments=()
for argument in "$@"; do
    [ "$argument" = --demo ] || fail "there is no '$argument'; only --demo"
    arguments+=("$argument")
done

if [ -z "${MICROCOMMERCE:-}" ]; then
    say "building"
    cargo build --release --bin microcommerce
    MICROCOMMERCE=${CARGO_TARGET_DIR:-target}/release/microcommerce
fi
mkdir -p "$RUN_DIR"
if [ -z "${KAFKA_BROKER:-}" ]; then
    bash deploy/local/kafka.sh start "${KAFKA_VERSION:-3.7.0}"
    touch "$RUN_DIR/kafka-is-ours"
    KAFKA_BROKER=127.0.0.1:${KAFKA_PORT:-9092}
fi
export KAFKA_BROKER

for role in "${ROLES[@]}"; do
    PORT=$(port_of "$role") setsid "$MICROCOMMERCE" --role "$role" "${arguments[@]}" >>"$RUN_DIR/$role.log" 2>&1 </dev/null &
    echo $! >"$RUN_DIR/$role.pid"
done

all_run() {
    local role
    for role in "${ROLES[@]}"; do
        is_running "$role" || fail "the $role has ended: $(tail -n 1 "$RUN_DIR/$role.log")"
    done
}

began=$SECONDS
until ready "$(port_of gateway)"; do
    all_run
    [ $((SECONDS - began)) -lt "$READY_S_MAX" ] || fail "not ready after $READY_S_MAX s; the logs are in $RUN_DIR"
    # A probe of what others start; nothing is in step with this pause.
    sleep 0.2
done
# Who answered may be a stranger on our port.
all_run
grep -h '^The administrator' "$RUN_DIR/user.log" || true
say "open: http://127.0.0.1:$(port_of gateway)  (five processes, Kafka at $KAFKA_BROKER, logs and data in $RUN_DIR)"
