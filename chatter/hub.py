"""Models on the Hugging Face hub: found in the cache or downloaded, without long waits if the network is down."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from chatter.cli import InputError, describe_error, log

TIMEOUT = 5  # seconds to wait for the hub
FILES = ["*.json", "*.safetensors", "merges.txt", "vocab.txt", "*.model"]


@lru_cache(maxsize=1)  # the hub is asked once
def fetch_model(model: str, weights: bool) -> Path:
    """Return the folder of a model: `model` itself if it is a folder, or its copy in the cache, downloaded if needed.

    Without `weights`, only config and tokenizer are downloaded. Raises InputError if the model does not exist, if the
    download fails, or if there is neither a network nor a copy.
    """
    if model and Path(model).is_dir():
        return Path(model)
    if not model or Path(model).is_absolute():
        raise InputError(f"no model {model!r}: there is no folder of this name. Check --model.")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        IncompleteSnapshotError,
        LocalEntryNotFoundError,
    )

    patterns = [pattern for pattern in FILES if weights or pattern != "*.safetensors"]
    log(f"getting {model} from {constants.ENDPOINT}, or from its copy in {constants.HF_HUB_CACHE}")
    try:
        offline = not is_online(constants.ENDPOINT)
        return Path(snapshot_download(model, allow_patterns=patterns, etag_timeout=TIMEOUT, local_files_only=offline))
    except (LocalEntryNotFoundError, IncompleteSnapshotError) as error:
        raise InputError(
            f"no model {model}: there is no folder of this name, no whole copy in {constants.HF_HUB_CACHE}, and no "
            "network. Copy a model here and pass its folder with --model, or set HF_HOME to a cache that has it."
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise InputError(
            f"no model {model}: there is no folder of this name, and {constants.ENDPOINT} has no such model that you "
            "may read. Check the name, or run hf auth login for a private one."
        ) from error
    except OSError:  # such as a full disk
        raise
    except Exception as error:  # of the library for HTTP
        raise InputError(
            f"{model} cannot be downloaded ({describe_error(error)}). Run the command again to continue the download."
        ) from error


def is_online(endpoint: str) -> bool:
    """Return whether the hub answers within TIMEOUT seconds; False if HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(endpoint, timeout=TIMEOUT)
    except Exception:  # from the HTTP library: no route, a failed name lookup, a proxy that refuses
        return False
    return True
