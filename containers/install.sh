#!/bin/sh
# Install the tested versions of all packages into a new environment: containers/install.sh ENVIRONMENT
# The code stays where it is, in this repository.
set -eu
environment=$(realpath -m "$1")
cd "$(dirname "$0")/.."
command -v uv >/dev/null || python3 -m pip install --quiet uv
UV_PROJECT_ENVIRONMENT="$environment" uv sync --quiet --no-dev --extra slurm --no-python-downloads --compile-bytecode
