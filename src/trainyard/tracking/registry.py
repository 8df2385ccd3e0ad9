"""MLflow's registry of models: one name a recipe, a version for each export, and two aliases that say which to use.

    champion      the version that `trainyard promote` named, which stage `gate` reads in champions/<recipe>/champion.json
    challenger    the newest version that is not the champion

Telling any of it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
FINGERPRINT, ENTRY = "trainyard.fingerprint", "trainyard.entry"


def register(client: MlflowClient, name: str, model_id: str, run_id: str, mark: str, tags: Mapping[str, str]) -> str:
    """Add a logged model as a version, unless `mark` says that it is there, and return its number.

    It becomes the challenger, and the champion only where its run is tagged as that.

    Raises:
        MlflowException: the store did not answer, or refused it.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = next((one for one in versions(client, name) if one.tags.get(ENTRY) == mark), None)
    if known is None:
        known = client.create_model_version(
            name, f"models:/{model_id}", run_id=run_id, tags={ENTRY: mark, **tags}, model_id=model_id, await_creation_for=0
        )
    number = str(known.version)
    is_champion = client.get_run(run_id).data.tags.get("trainyard.champion") == "yes"
    client.set_registered_model_alias(name, CHAMPION if is_champion else CHALLENGER, number)
    return number


def crown(client: MlflowClient, name: str, fingerprint: str) -> str | None:
    """Have the newest version with a fingerprint carry the alias champion, and return its number.

    Where there is none yet, it gets the alias when it comes, and nothing changes now.

    Raises:
        MlflowException: the store did not answer, or refused it.
    """
    found = [one for one in versions(client, name) if one.tags.get(FINGERPRINT) == fingerprint]
    if not found:
        return None
    number = str(found[0].version)
    client.set_registered_model_alias(name, CHAMPION, number)
    with suppress(MlflowException):  # there is no such alias
        if str(client.get_model_version_by_alias(name, CHALLENGER).version) == number:
            client.delete_registered_model_alias(name, CHALLENGER)
    return number


def versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of a name, the newest first."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=200, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda one: -int(one.version))
