#!/usr/bin/env bash
# A real Apache Kafka (KRaft) on the loopback address, for development and tests.
#
#   kafka.sh start  [VERSION] [BROKERS]   start it and wait until every broker answers (default: 3.7.0, 1 broker)
#   kafka.sh stop                         stop it; its data stay, the next start goes on with them
#   kafka.sh status                       say what runs; exit 0 if all of it answers, 1 if not
#   kafka.sh kill | freeze | thaw  [N]    for tests: end it as a power cut would; stop it from answering; let it go on
#                                         (all brokers, or the Nth alone; `start` starts what is dead)
#
# Settings (environment):
#   KAFKA_PORT     port of the first broker; the next ones take the next ports (default 9092). Controllers: +1000.
#   KAFKA_DIR      where everything is kept (default: a folder in the temporary directory); remove it to start afresh
#   KAFKA_ENGINE   docker, podman or java (default: a container engine if one is running, else java)
#   KAFKA_HEAP     heap of each broker, java only (default 512m)
#   KAFKA_TLS      1: beside the open port listen with TLS and a password too, java only; ports +2000, user `shop` with the
#                  password `shop-secret` (SCRAM-SHA-512 or PLAIN), certificate in $KAFKA_DIR/<port>/tls/ca.pem. For tests alone
#
# Without a container engine it needs java (17 or newer) and mvn: the first start fetches Kafka as ordinary Maven artifacts.
set -euo pipefail

readonly READY_S_MAX=60  # a cold JVM on a busy machine; 2 to 8 s is usual
readonly STOP_S_MAX=20   # a controlled shutdown; after it the process is killed
readonly CLUSTER_ID=MicroCommerceLocalKafA
readonly IMAGE=apache/kafka
readonly TLS_PASSWORD=shop-secret

PORT=${KAFKA_PORT:-9092}
DIR=${KAFKA_DIR:-${TMPDIR:-/tmp}/microcommerce-kafka}
HOME_DIR=$DIR/$PORT
CONTAINER=microcommerce-kafka-$PORT

say() { printf 'kafka: %s\n' "$*"; }
fail() { printf 'kafka: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,20p' "$0" | sed 's/^# \{0,1\}//'; }
broker_port() { echo $((PORT + $1 - 1)); }
controller_port() { echo $((PORT + 1000 + $1 - 1)); }
tls_port() { echo $((PORT + 2000 + $1 - 1)); }

# ── probing: the Kafka protocol itself, since an open port is not yet a broker ─────────────────────────────────────

# The number of brokers that the broker at port $1 knows to be alive: a Metadata v1 request for no topic. 0 = no answer.
brokers_seen_by() {
    local answer
    answer=$(timeout 2 bash -c '
        exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
        printf "\x00\x00\x00\x0e\x00\x03\x00\x01\x00\x00\x00\x2a\xff\xff\x00\x00\x00\x00" >&3
        head -c 12 <&3 | od -An -tu1' "$1" 2>/dev/null | tr -s ' \n' ' ') || true
    # length (4 bytes), correlation id (4), number of brokers (4, big endian; never above 255 here)
    echo "${answer% }" | awk 'NF == 12 { print $12; found = 1 } END { if (!found) print 0 }'
}

port_is_open() { timeout 1 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0"' "$1" 2>/dev/null; }

all_answer() {
    local brokers=$1 i
    for ((i = 1; i <= brokers; i++)); do
        [ "$(brokers_seen_by "$(broker_port "$i")")" = "$brokers" ] || return 1
    done
}

# ── state: one small file says what was started ───────────────────────────────────────────────────────────────────

remember() { echo "$ENGINE $VERSION $BROKERS" >"$HOME_DIR/running"; }
recall() {
    ENGINE='' VERSION='' BROKERS=0
    if [ -f "$HOME_DIR/running" ]; then read -r ENGINE VERSION BROKERS <"$HOME_DIR/running"; fi
}

alive() { # broker $1 of the remembered engine
    if [ "$ENGINE" = java ]; then
        local pid
        pid=$(cat "$HOME_DIR/broker-$1.pid" 2>/dev/null) || return 1
        # the settings file in the command line tells our broker from a stranger that got the same process id
        ps -o args= -p "$pid" 2>/dev/null | grep -q "$HOME_DIR/.*broker-$1.properties"
    else
        [ "$("$ENGINE" inspect -f '{{.State.Running}}' "$CONTAINER-$1" 2>/dev/null)" = true ]
    fi
}

pick_engine() {
    local engine
    if [ -n "${KAFKA_ENGINE:-}" ]; then
        case $KAFKA_ENGINE in docker | podman | java) echo "$KAFKA_ENGINE" ;; *) fail "KAFKA_ENGINE must be docker, podman or java, not '$KAFKA_ENGINE'" ;; esac
        return
    fi
    for engine in docker podman; do
        if command -v "$engine" >/dev/null && timeout 10 "$engine" info >/dev/null 2>&1; then
            echo "$engine"
            return
        fi
    done
    echo java
}

# What both ways have in common: one line per setting, for broker $1 of $2.
common_settings() {
    local replicas=$(($2 < 3 ? $2 : 3))
    cat <<SETTINGS
node.id=$1
process.roles=broker,controller
controller.listener.names=CONTROLLER
offsets.topic.num.partitions=8
offsets.topic.replication.factor=$replicas
transaction.state.log.num.partitions=8
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$((replicas > 1 ? 2 : 1))
group.initial.rebalance.delay.ms=0
SETTINGS
}

# ── plain java ────────────────────────────────────────────────────────────────────────────────────────────────────

fetch_with_maven() { # version, folder
    command -v mvn >/dev/null || fail "mvn is missing: install Maven (for example the package 'maven'), or start a container engine"
    say "fetching Kafka $1 from Maven (once, about 45 MB)"
    local work=$2.fetching.$$
    mkdir -p "$work"
    cat >"$work/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$1</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
    (cd "$work" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs -DincludeScope=runtime >mvn.log 2>&1) ||
        fail "Maven could not fetch Kafka $1; its words are in $work/mvn.log"
    # the rename is atomic, so a fetch that was cut short is never taken for a whole one
    [ -d "$2" ] || mv "$work/libs" "$2"
    rm -rf "$work"
}

# A certificate that vouches for itself, for the loopback address.
make_certificate() { # folder
    [ -f "$1/ca.pem" ] && return
    command -v keytool >/dev/null || fail "keytool is missing: it comes with Java"
    rm -rf "$1" && mkdir -p "$1"
    local store=(-alias broker -storetype PKCS12 -keystore "$1/broker.p12" -storepass "$TLS_PASSWORD")
    keytool -genkeypair "${store[@]}" -keyalg EC -groupname secp256r1 -validity 3650 -dname CN=localhost \
        -ext bc:c=ca:true -ext san=dns:localhost,ip:127.0.0.1 >"$1/keytool.log" 2>&1 || fail "no certificate; see $1/keytool.log"
    keytool -exportcert -rfc "${store[@]}" >"$1/ca.pem.new" 2>>"$1/keytool.log" || fail "no certificate; see $1/keytool.log"
    mv "$1/ca.pem.new" "$1/ca.pem"
}

# What a listener with TLS and passwords needs: one line per setting.
tls_settings() { # folder of the certificate
    cat <<SETTINGS
ssl.keystore.type=PKCS12
ssl.keystore.location=$1/broker.p12
ssl.keystore.password=$TLS_PASSWORD
listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_shop="$TLS_PASSWORD";
SETTINGS
}

java_version() { java -version 2>&1 | sed -n 's/.* version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1; }

start_java() {
    command -v java >/dev/null || fail "java is missing: install a Java runtime, 17 or newer, or start a container engine"
    local java_major
    java_major=$(java_version)
    [ "${java_major:-0}" -ge 17 ] || fail "Kafka needs Java 17 or newer; this is Java ${java_major:-of an unknown version}"
    local libs=$DIR/libs-$VERSION data=$HOME_DIR/$VERSION-$BROKERS voters='' i format=()
    [ -d "$libs" ] || fetch_with_maven "$VERSION" "$libs"
    if [ -n "${KAFKA_TLS:-}" ]; then
        data+=-tls # its user is made when the storage is formatted
        format=(--add-scram "SCRAM-SHA-512=[name=shop,password=$TLS_PASSWORD]")
        make_certificate "$HOME_DIR/tls"
    fi
    mkdir -p "$data"
    for ((i = 1; i <= BROKERS; i++)); do voters+="${voters:+,}$i@127.0.0.1:$(controller_port "$i")"; done
    for ((i = 1; i <= BROKERS; i++)); do
        if ! alive "$i" && port_is_open "$(broker_port "$i")"; then fail "port $(broker_port "$i") is taken by another program; choose one with KAFKA_PORT"; fi
    done
    remember
    for ((i = 1; i <= BROKERS; i++)); do
        if alive "$i"; then continue; fi
        local settings=$data/broker-$i.properties
        {
            common_settings "$i" "$BROKERS"
            local listeners="PLAINTEXT://127.0.0.1:$(broker_port "$i"),CONTROLLER://127.0.0.1:$(controller_port "$i")"
            if [ -n "${KAFKA_TLS:-}" ]; then
                listeners+=",SASL_SSL://127.0.0.1:$(tls_port "$i")"
                tls_settings "$HOME_DIR/tls"
            fi
            echo "listeners=$listeners"
            echo "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL"
            echo "controller.quorum.voters=$voters"
            echo "log.dirs=$data/log-$i"
        } >"$settings"
        [ -f "$data/log-$i/meta.properties" ] ||
            java -cp "$libs/*" kafka.tools.StorageTool format -t "$CLUSTER_ID" -c "$settings" "${format[@]}" >"$data/format-$i.log" 2>&1 ||
            fail "the storage could not be formatted; see $data/format-$i.log"
        nohup java -Xms128m -Xmx"${KAFKA_HEAP:-512m}" -XX:+UseG1GC -Djava.awt.headless=true -cp "$libs/*" kafka.Kafka "$settings" \
            >"$data/broker-$i.log" 2>&1 </dev/null &
        echo $! >"$HOME_DIR/broker-$i.pid"
    done
    LOG=$data/broker-1.log
}

stop_java() {
    local i pid waited
    for ((i = 1; i <= BROKERS; i++)); do
        if alive "$i"; then kill -TERM "$(cat "$HOME_DIR/broker-$i.pid")"; fi
    done
    for ((i = 1; i <= BROKERS; i++)); do
        waited=0
        while alive "$i" && [ "$waited" -lt $((STOP_S_MAX * 10)) ]; do sleep 0.1; waited=$((waited + 1)); done
        pid=$(cat "$HOME_DIR/broker-$i.pid" 2>/dev/null) || continue
        if alive "$i"; then say "broker $i did not stop in $STOP_S_MAX s: killed"; kill -KILL "$pid"; fi
        rm -f "$HOME_DIR/broker-$i.pid"
    done
}

# ── a container engine ────────────────────────────────────────────────────────────────────────────────────────────

start_containers() {
    local voters='' i
    "$ENGINE" network inspect "$CONTAINER" >/dev/null 2>&1 || "$ENGINE" network create "$CONTAINER" >/dev/null
    for ((i = 1; i <= BROKERS; i++)); do voters+="${voters:+,}$i@$CONTAINER-$i:9093"; done
    remember
    for ((i = 1; i <= BROKERS; i++)); do
        if alive "$i"; then continue; fi
        local name=$CONTAINER-$i port arguments=() line key
        port=$(broker_port "$i")
        if [ "$("$ENGINE" inspect -f '{{index .Config.Labels "brokers"}} {{.Config.Image}}' "$name" 2>/dev/null)" = "$BROKERS $IMAGE:$VERSION" ]; then
            "$ENGINE" start "$name" >/dev/null || fail "$ENGINE could not start the container $name"
            continue
        fi
        "$ENGINE" rm -f "$name" >/dev/null 2>&1 || true
        while IFS= read -r line; do
            key=KAFKA_$(printf '%s' "${line%%=*}" | tr 'a-z.' 'A-Z_')
            arguments+=(-e "$key=${line#*=}")
        done < <(
            common_settings "$i" "$BROKERS"
            echo "listeners=PLAINTEXT://:$port,INTERNAL://:9094,CONTROLLER://:9093"
            echo "advertised.listeners=PLAINTEXT://127.0.0.1:$port,INTERNAL://$name:9094"
            echo "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            echo "inter.broker.listener.name=INTERNAL"
            echo "controller.quorum.voters=$voters"
        )
        "$ENGINE" run -d --name "$name" --network "$CONTAINER" -p "127.0.0.1:$port:$port" --label "brokers=$BROKERS" \
            -e "CLUSTER_ID=$CLUSTER_ID" "${arguments[@]}" "$IMAGE:$VERSION" >/dev/null ||
            fail "$ENGINE could not start $IMAGE:$VERSION; KAFKA_ENGINE=java does without containers"
    done
    LOG="$ENGINE logs $CONTAINER-1"
}

stop_containers() {
    local i
    for ((i = 1; i <= BROKERS; i++)); do "$ENGINE" stop -t "$STOP_S_MAX" "$CONTAINER-$i" >/dev/null 2>&1 || true; done
}

# ── the three commands ────────────────────────────────────────────────────────────────────────────────────────────

start() {
    local version=${1:-3.7.0} brokers=${2:-1} began engine i
    [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "'$version' is no version such as 3.7.0"
    [[ $brokers =~ ^[1-9]$ ]] || fail "the number of brokers must be 1 to 9, not '$brokers'"
    mkdir -p "$HOME_DIR"
    recall
    if [ "$BROKERS" != 0 ] && [ "$VERSION $BROKERS" != "$version $brokers" ]; then
        for ((i = 1; i <= BROKERS; i++)); do
            if alive "$i"; then fail "Kafka $VERSION with $BROKERS broker(s) runs on port $PORT; stop it first, or choose another KAFKA_PORT"; fi
        done
    fi
    engine=$(pick_engine) || exit 1
    [ -z "${KAFKA_TLS:-}" ] || engine=java
    ENGINE=$engine VERSION=$version BROKERS=$brokers
    if [ -f "$HOME_DIR/running" ] && all_answer "$BROKERS"; then
        say "Kafka $VERSION already runs on 127.0.0.1:$PORT ($BROKERS broker(s))"
        return
    fi
    began=$(date +%s%N)
    if [ "$ENGINE" = java ]; then start_java; else start_containers; fi
    until all_answer "$BROKERS"; do
        for ((i = 1; i <= BROKERS; i++)); do alive "$i" || fail "broker $i died while starting; see $LOG"; done
        [ $((($(date +%s%N) - began) / 1000000000)) -lt "$READY_S_MAX" ] || fail "no answer within $READY_S_MAX s; see $LOG"
        sleep 0.1
    done
    say "Kafka $VERSION ready on 127.0.0.1:$PORT ($BROKERS broker(s), $ENGINE) after $((($(date +%s%N) - began) / 1000000)) ms"
}

stop() {
    recall
    [ "$BROKERS" != 0 ] || { say "nothing to stop on port $PORT"; return; }
    if [ "$ENGINE" = java ]; then stop_java; else stop_containers; fi
    rm -f "$HOME_DIR/running"
    say "stopped (port $PORT)"
}

# kill, freeze or thaw every broker, or the one of number $2; `start` goes on after a kill, as after a crash
disturb() {
    local i signal command only=${2:-}
    case $1 in kill) signal=KILL command=kill ;; freeze) signal=STOP command=pause ;; thaw) signal=CONT command=unpause ;; esac
    recall
    [ "$BROKERS" != 0 ] || fail "nothing runs on port $PORT"
    [[ -z $only || $only =~ ^[1-9]$ && $only -le $BROKERS ]] || fail "there is no broker $only: $BROKERS run(s) on port $PORT"
    for ((i = ${only:-1}; i <= ${only:-BROKERS}; i++)); do
        if [ "$ENGINE" = java ]; then kill -"$signal" "$(cat "$HOME_DIR/broker-$i.pid")"; else "$ENGINE" "$command" "$CONTAINER-$i" >/dev/null; fi
    done
    say "$1: ${only:+broker $only of }$BROKERS broker(s) on port $PORT"
}

status() {
    recall
    [ "$BROKERS" != 0 ] || { say "not running on port $PORT"; return 1; }
    local i port seen whole=0
    say "Kafka $VERSION, $BROKERS broker(s), $ENGINE"
    for ((i = 1; i <= BROKERS; i++)); do
        port=$(broker_port "$i")
        seen=$(brokers_seen_by "$port")
        if ! alive "$i"; then say "  broker $i on port $port: dead"; whole=1
        elif [ "$seen" = "$BROKERS" ]; then say "  broker $i on port $port: answers"
        else say "  broker $i on port $port: alive, sees $seen of $BROKERS broker(s)"; whole=1; fi
    done
    return $whole
}

[[ $PORT =~ ^[0-9]+$ ]] || fail "KAFKA_PORT must be a number, not '$PORT'"
case ${1:-} in
    start) shift; start "$@" ;;
    stop) stop ;;
    status) status ;;
    kill | freeze | thaw) disturb "$@" ;;
    -h | --help | help) usage ;;
    *) usage >&2; exit 2 ;;
esac
