# What .ci/run and .ci/full share; sourced, not run. Who sources it has gone to the repository's root and set STEPS.

readonly KAFKA_VERSIONS=${KAFKA_VERSIONS:-3.7.0 4.4.0}
readonly KAFKA_TEST_PORT=${KAFKA_PORT:-19092}
readonly CACHE=${CI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/microcommerce-ci}
export CARGO_TERM_COLOR=never
# Where the clients of other languages are kept that read our topics in a test.
export KAFKA_CLIENTS_DIR=${KAFKA_CLIENTS_DIR:-$CACHE/kafka-clients}

broker() { KAFKA_PORT=$KAFKA_TEST_PORT bash deploy/local/kafka.sh "$@"; }

# A broker of this version with nothing in it, as the suites find it.
fresh_broker() {
    # What a run that was cut short left there, and what another version wrote.
    broker stop
    rm -rf "${KAFKA_DIR:?}/$KAFKA_TEST_PORT"
    broker start "$1"
    export KAFKA_VERSION=$1
}

# Brokers that the suites start for themselves share the folder, and so the fetched libraries.
use_brokers() {
    # Suites leave thousands of partitions behind; with the usual heap a broker would spend its time collecting.
    export KAFKA_HEAP=${KAFKA_HEAP:-1g}
    export KAFKA_DIR=${KAFKA_DIR:-$CACHE/kafka} KAFKA_BROKER=127.0.0.1:$KAFKA_TEST_PORT REQUIRE_KAFKA=1
    trap 'broker stop' EXIT
}

# Runs the steps that are named, or all: each in a shell of its own, so that `set -e` holds inside it, a trap ends with it, and a step
# that fails does not keep the next ones from running. One line of time per step, a summary, and a failure if any step failed.
run_steps() {
    local wanted=("$@") failed=() passed=() began=$SECONDS summary='' step since status outcome line
    [ ${#wanted[@]} != 0 ] || wanted=("${STEPS[@]}")
    for step in "${wanted[@]}"; do
        [[ " ${STEPS[*]} " == *" $step "* ]] || { echo "no step is called '$step'; there are: ${STEPS[*]}" >&2; exit 2; }
    done
    for step in "${wanted[@]}"; do
        since=$SECONDS outcome=passed
        printf '\n== %s\n' "$step"
        set +e
        (set -e; "$step") </dev/null
        status=$?
        set -e
        if [ "$status" = 0 ]; then passed+=("$step"); else outcome="FAILED ($status)"; failed+=("$step"); fi
        line=$(printf '%-11s %4d s  %s' "$step" $((SECONDS - since)) "$outcome")
        printf -- '-- %s\n' "$line"
        summary+="$line"$'\n'
    done
    printf '\n== summary\n%s%-11s %4d s\n' "$summary" total $((SECONDS - began))
    echo "steps: ${#passed[@]} passed, ${#failed[@]} failed"
    [ ${#failed[@]} = 0 ]
}
