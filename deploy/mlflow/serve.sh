#!/usr/bin/env bash
# Start MLflow with users: its settings come from the environment (compose.yaml), and go into a file that only it reads.
set -euo pipefail
: "${BACKEND_URI:?where the runs go}" "${USERS_URI:?where the users go}" "${ARTIFACTS:?where files go}" "${ALLOWED_HOSTS:?its names}"
: "${ADMIN_PASSWORD:?run secrets.sh}" "${MLFLOW_FLASK_SERVER_SECRET_KEY:?run secrets.sh}"
[ ${#ADMIN_PASSWORD} -ge 12 ] || { echo "ERROR: ADMIN_PASSWORD has fewer than 12 characters; secrets.sh makes a good one" >&2; exit 2; }
umask 077
settings=$(mktemp)
cat >"$settings" <<INI
[mlflow]
default_permission = READ
database_uri = ${USERS_URI//%/%%}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
export MLFLOW_AUTH_ADMIN_PASSWORD=$ADMIN_PASSWORD
export MLFLOW_AUTH_CONFIG_PATH=$settings MLFLOW_DISABLE_TELEMETRY=true
# Through the environment: a command line is everybody's to read.
export MLFLOW_BACKEND_STORE_URI=$BACKEND_URI
exec mlflow server --app-name basic-auth --host "${HOST:-0.0.0.0}" --port "${PORT:-5000}" --artifacts-destination "$ARTIFACTS" \
    --serve-artifacts --allowed-hosts "$ALLOWED_HOSTS" --workers "${WORKERS:-2}"
