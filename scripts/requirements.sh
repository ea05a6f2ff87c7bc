#!/usr/bin/env bash
# Writes requirements/*.txt from pyproject.toml: every version pinned, every file hashed, no address inside.
# Pins that still fit are kept; UPGRADE=1 takes the newest releases.
# usage: scripts/requirements.sh PYTHON        (PYTHON: the virtual environment's interpreter)
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1

# The lowest supported Python decides: markers such as python_version < "3.12" are resolved for the one that runs.
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    { echo "requirements: run with Python 3.11, the lowest supported one (make requirements VENV=build/py311 PYTHON=python3.11)" >&2; exit 1; }

# Prints the requirements of the project itself and of the dependency groups named.
listed() {
    "$python" - "$@" <<'PY'
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    document = tomllib.load(file)
lines = list(document["project"]["dependencies"])
pending = list(sys.argv[1:])
while pending:
    for item in document["dependency-groups"][pending.pop()]:
        if isinstance(item, str):
            lines.append(item)
        else:
            pending.append(item["include-group"])
print("\n".join(lines))
PY
}

# compile OUTPUT [pip-compile option…] < requirements
compile() {
    local output=$1
    shift
    CUSTOM_COMPILE_COMMAND="make requirements" "$python" -m piptools compile --quiet --generate-hashes --strip-extras \
        --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
        --no-annotate ${UPGRADE:+--upgrade} --output-file "$output" "$@" -
}

mkdir -p requirements
listed | compile requirements/runtime.txt
listed dev | compile requirements/dev.txt --constraint requirements/runtime.txt
