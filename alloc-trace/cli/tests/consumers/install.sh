#!/usr/bin/env bash
# Installs what tests/consumers.rs reads exports with, into target/consumers: packages of PyPI and npm.
# Go and Valgrind are the system's.
set -euo pipefail
cd "$(dirname "$0")/../../../.."
into=target/consumers
python3 -m venv "$into/venv"
"$into/venv/bin/pip" install --quiet --disable-pip-version-check \
    duckdb==2.0.1 pyarrow==26.0.1 jsonschema perfetto==0.59.1 protobuf
npm install --silent --no-fund --no-audit --prefix "$into" speedscope@1.25.0
