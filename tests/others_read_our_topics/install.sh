#!/usr/bin/env bash
# Fetches the clients of other languages that read our topics in tests/others_read_our_topics.rs: kafka-python, kafkajs and Java's own,
# each alone, without packages for further codecs.
#
#   install.sh DIRECTORY    does nothing where they are there already
set -euo pipefail

readonly KAFKA_PYTHON=3.0.12 KAFKAJS=2.2.4 KAFKA_CLIENTS=4.3.1
readonly STAMP="$KAFKA_PYTHON $KAFKAJS $KAFKA_CLIENTS"
here=$(cd "$(dirname "$0")" && pwd)
directory=${1:?usage: install.sh DIRECTORY}

[ "$(cat "$directory/installed" 2>/dev/null)" = "$STAMP" ] && exit 0
for command in python3 node npm mvn javac; do
    command -v "$command" >/dev/null || { echo "$command is missing: .ci/run packages installs it" >&2; exit 1; }
done
# Two that install at once do not see each other's half.
work=$directory.installing.$$
rm -rf "$work" && mkdir -p "$work/node" "$work/java"
trap 'rm -rf "$work"' EXIT
python3 -m venv --copies "$work/python"
"$work/python/bin/python" -m pip install --quiet --disable-pip-version-check --target "$work/python/packages" "kafka-python==$KAFKA_PYTHON"
(cd "$work/node" && npm install --silent --no-fund --no-audit "kafkajs@$KAFKAJS")
cat >"$work/java/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>reader</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-clients</artifactId><version>$KAFKA_CLIENTS</version>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
(cd "$work/java" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs -DincludeScope=runtime)
javac -cp "$work/java/libs/*" -d "$work/java" "$here/Reader.java"
echo "$STAMP" >"$work/installed"
rm -rf "$directory" && mv "$work" "$directory"
