"""Upload a trained model or a data set to the Hub, whole in one commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, RevisionNotFoundError

from .model_card import Emissions
from .repository import OWN_FILES, check_repo_id, write_model_repository

if TYPE_CHECKING:
    from datasets import Dataset

DELETED = {"model": OWN_FILES, "dataset": ["data/*.parquet", "*/*-of-*.parquet"]}
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write there (https://huggingface.co/settings/tokens)"


def push_model(
    checkpoint: str | Path,
    repo_id: str,
    results: Sequence[str | Path] = (),
    licence: str | None = None,
    emissions: Emissions | None = None,
    **upload: Any,
) -> str:
    """Publish a checkpoint with its processor, recipe, knowledge list, results and card; see `write_model_repository`.

    Args:
        checkpoint: folder of a finished `hf-mner train` or `hf-mner compact`.
        repo_id: name on the Hub; the repository is made if there is none.
        results: JSON files of `hf-mner evaluate`.
        licence: licence identifier of the weights.
        emissions: what is known of the training's energy.
        upload: see `upload_folder`.

    Returns:
        The address of the commit.

    Raises:
        PermissionError: if the Hub does not let this user write there; nothing was uploaded.
        ValueError: see `write_model_repository`; `repo_id` that is no name.
    """
    with TemporaryDirectory() as scratch:
        folder = write_model_repository(checkpoint, Path(scratch) / "model", repo_id, results, licence, emissions)
        return upload_folder(folder, repo_id, "model", **upload)


def push_dataset(
    configurations: Mapping[str, Mapping[str, Dataset]],
    repo_id: str,
    name: str,
    licence: str | None = None,
    **upload: Any,
) -> str:
    """Publish a data set as Parquet files with embedded images and a card; see `write_parquet_configurations`.

    Args:
        configurations: splits of `MnerExample` rows for each configuration; the first is the default.
        repo_id: name on the Hub; the repository is made if there is none.
        name: as in `load_mner_dataset`; decides what the card says on licence and provenance.
        licence: licence identifier of texts and images, for data of one's own.
        upload: see `upload_folder`.

    Returns:
        The address of the commit.

    Raises:
        PermissionError: if the Hub does not let this user write there; nothing was uploaded.
        ValueError: for a `repo_id` that is no name.
    """
    from hf_mner.data.publishing import write_parquet_configurations

    check_repo_id(repo_id)
    with TemporaryDirectory() as scratch:
        folder = write_parquet_configurations(configurations, Path(scratch) / "dataset", name, repo_id, licence)
        return upload_folder(folder, repo_id, "dataset", **upload)


def upload_folder(
    folder: Path,
    repo_id: str,
    repo_type: Literal["model", "dataset"],
    private: bool | None = None,
    message: str = "Upload with hf_mner",
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> str:
    """Upload a folder in one commit; files of earlier uploads that the folder lacks are removed, and no others.

    Args:
        folder: what the repository holds afterwards.
        repo_id: name on the Hub; the repository is made if there is none.
        repo_type: what it is.
        private: of a new repository: only who is let in sees it; `None` = as the owner's settings say.
        message: of the commit.
        revision: branch, which must exist; `None` = main.
        create_pr: propose the commit as a pull request.
        token: `None` = what the user is logged in with.

    Raises:
        PermissionError: if the Hub does not let this user write there.
        ValueError: if there is no such branch.
    """
    api = HfApi(token=token, library_name="hf_mner")
    with explained(repo_id, revision):
        api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type=repo_type,
            folder_path=folder,
            commit_message=message,
            revision=revision,
            create_pr=create_pr,
            delete_patterns=DELETED[repo_type],
        )
    return commit.pr_url or commit.commit_url


@contextmanager
def explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """Say of a refusal of the Hub what to do; a token never gets into the text."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PermissionError(f"Cannot write to {repo_id!r}: you are not logged in; {LOG_IN}.") from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"`--revision {revision}` is no branch of {repo_id!r}; make it first: `hf repos branch create {repo_id}"
            f" {revision}`."
        ) from error
    except HfHubHTTPError as error:
        if error.response is None or error.response.status_code not in (401, 403):
            raise
        said = error.server_message or f"status {error.response.status_code}"
        raise PermissionError(f"Cannot write to {repo_id!r}: the Hub says {said!r}; {LOG_IN}.") from error
