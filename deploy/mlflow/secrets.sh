#!/usr/bin/env bash
# Write .env with random passwords, readable by its owner alone. What is there stays: the database knows the old ones.
set -euo pipefail
cd "$(dirname "$0")"
[ ! -e .env ] || { echo "$PWD/.env is there already; delete it for new passwords, and then the volumes too" >&2; exit 2; }
random() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
umask 077
cat >.env.new <<ENV
POSTGRES_PASSWORD=$(random)
AWS_ACCESS_KEY_ID=mlflow-$(random | head -c 8)
AWS_SECRET_ACCESS_KEY=$(random)
ADMIN_PASSWORD=$(random)
FLASK_SECRET_KEY=$(random)
ENV
mv .env.new .env
echo "$PWD/.env: made. The user is admin; its password:  grep ADMIN_PASSWORD $PWD/.env"
