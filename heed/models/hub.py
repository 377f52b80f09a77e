"""Models on the hub: is there one of that name, and must its files be here before it is opened?"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from huggingface_hub import (
    HfApi,
    constants,
    get_token,
    is_offline_mode,
    model_info,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HFValidationError, HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]

from heed.errors import CheckpointError

ANSWER_SECONDS = 10

log = logging.getLogger("heed")


@cache
def fetched(name: str, marks: tuple[str, ...]) -> Path | None:
    """The directory in the hub's cache of a model that has one of the files `marks`, which is fetched whole; None for
    every other model, which transformers fetches file by file. Raises `CheckpointError` where there is no such model.

    Where the hub cannot be reached its libraries would ask for every file six times, for minutes. Here it is asked
    once, and if it does not answer this process goes on as with HF_HUB_OFFLINE=1.
    """
    try:
        files = {file.rfilename for file in model_info(name, timeout=ANSWER_SECONDS).siblings or ()}
        return Path(snapshot_download(name)) if files.intersection(marks) else None
    except HFValidationError:
        raise CheckpointError(name, "is neither a directory here nor a hub name", "give the path of a run") from None
    except RepositoryNotFoundError:
        hint = "give the directory of a model, or spell the hub name as on its page (and log in where it is private)"
        raise CheckpointError(name, "is neither a directory here nor a model on the hub", hint) from None
    except (OSError, ValueError, HTTPError) as error:
        return _cached(name, marks, next(iter(str(error).splitlines()), type(error).__name__))


def upload(path: Path, name: str, private: bool, left_out: Sequence[str] = ()) -> str:
    """Put a directory into a repository of the hub, which is made where it is not there; returns its address.

    Raises `CheckpointError` where the hub cannot be reached, nobody is logged in, or the name is somebody else's.
    """
    if is_offline_mode():
        raise CheckpointError(name, "HF_HUB_OFFLINE is set, so nothing can be sent", "unset it, and push again")
    if get_token() is None:
        raise CheckpointError(name, "nobody is logged in to the hub", "hf auth login, or set HF_TOKEN")
    api = HfApi()
    try:
        whole = str(api.create_repo(name, private=private, exist_ok=True).repo_id)
        api.upload_folder(
            repo_id=whole, folder_path=path, ignore_patterns=list(left_out), commit_message="Upload by heed"
        )
    except HFValidationError:
        raise CheckpointError(name, "is not a name of a repository", "give it as owner/name") from None
    except (OSError, ValueError, HTTPError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        told = next(iter(str(error).splitlines()), type(error).__name__)
        if status in (401, 403):
            hint = "log in as somebody who may write there: hf auth login, or another HF_TOKEN"
            raise CheckpointError(name, f"the hub refuses: {told}", hint) from None
        hint = "push again when it can be; what was sent is not sent twice"
        raise CheckpointError(name, f"the hub cannot be reached: {told}", hint) from None
    return f"{api.endpoint}/{whole}"


def _cached(name: str, marks: tuple[str, ...], reason: str) -> Path | None:
    """`fetched` where the hub gives no answer."""
    paths = {file: try_to_load_from_cache(name, file) for file in (*marks, "config.json")}
    found = {file: Path(path).parent for file, path in paths.items() if isinstance(path, str)}
    if not found:
        told = "HF_HUB_OFFLINE is set" if is_offline_mode() else f"the hub cannot be reached: {reason}"
        hint = "give the directory of a model, or a hub name while online (or with the model in the hub cache)"
        raise CheckpointError(name, f"is not a directory here nor in the hub cache, and {told}", hint)
    if not is_offline_mode():
        log.warning("the hub cannot be reached, what is in its cache is used: %s", reason)
        constants.HF_HUB_OFFLINE = True
    return next((found[mark] for mark in marks if mark in found), None)
