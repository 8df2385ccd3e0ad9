#!/usr/bin/env bash
# What a RayJob runs on the head: get the project and its data, train on the cluster, hand the results on.
# From the environment: git (address of the project), TARGET (stages for dvc repro), RESULTS (branch for the new dvc.lock).
set -euo pipefail
: "${git:?the address of the project; see rayjob.yaml}" "${TARGET:?the stages to run, such as evaluate@cnn}" "${RESULTS:?a branch}"

# On the shared volume, by the target: the next attempt finds the checkpoints and what is prepared.
project=${SHARED:-/shared}/projects/${TARGET//[^A-Za-z0-9]/-}
mkdir -p "$(dirname "$project")"
exec 9>"$project.lock"
flock -n 9 || { echo "ERROR: $project is in use by another job for $TARGET; wait for its end, or stop it" >&2; exit 3; }
# The address may hold a token: it stays in the environment, out of the project's files and of most command lines.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.$git.insteadOf" GIT_CONFIG_VALUE_0=project:
[ -d "$project/.git" ] || git init -q "$project"
cd "$project"
git fetch -q project: HEAD
git checkout -q --force --detach FETCH_HEAD

# What the remote does not have is made here: a fresh project has nothing there yet.
dvc pull -q --allow-missing
RAY_ADDRESS=${RAY_ADDRESS:-auto} dvc repro "$TARGET"
dvc push -q
git add dvc.lock
if ! git diff --cached --quiet; then
    git -c user.name=trainyard -c user.email=trainyard@localhost commit -q -m "Results of $TARGET"
    git push -q --force project: "HEAD:refs/heads/$RESULTS"
fi
echo "done: git fetch origin $RESULTS, then dvc pull"
