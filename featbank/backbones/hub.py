"""A quick check of whether published weights can be fetched, before timm retries for minutes."""

from __future__ import annotations

from typing import Any

from featbank.errors import InputError

__all__ = ["require_fetchable"]

# Names under which timm looks for weights in a repository of the hub.
FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
SECONDS = 5.0


def require_fetchable(name: str, config: Any) -> None:
    """Raise `InputError` unless the weights of a backbone are cached or their host answers.

    Downloaders retry for the better part of a minute; this asks once. `config` is timm's record
    of the pretrained model.
    """
    if not (config.hf_hub_id or config.url or config.file):
        message = f"backbone {name!r} has no published weights; give a file with --weights"
        raise InputError(message)
    reason = _unreachable(config)
    if reason:
        where = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url
        what = f"{FILES[0]} of {where}" if config.hf_hub_id else str(where)
        message = (
            f"cannot fetch the weights of {name!r} ({reason}): download {what} where there is a "
            "network and give the file with --weights"
        )
        raise InputError(message)


def _unreachable(config: Any) -> str:
    """Return why the weights cannot be had now; an empty string where they can."""
    if config.hf_hub_id and _cached(config):
        return ""
    if config.hf_hub_id and _constants().HF_HUB_OFFLINE:
        return "offline mode is set, and they are not in the hub's cache"
    address = _constants().ENDPOINT if config.hf_hub_id else config.url
    return _silence(str(address)) if address else ""


def _cached(config: Any) -> bool:
    from huggingface_hub import try_to_load_from_cache

    repo, _, revision = str(config.hf_hub_id).partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else FILES
    found = (try_to_load_from_cache(repo, each, revision=revision or None) for each in names)
    return any(isinstance(each, str) for each in found)


def _constants() -> Any:
    from huggingface_hub import constants

    return constants


def _silence(address: str) -> str:
    """Return why no answer comes from an address; an error page counts as an answer."""
    import urllib.error
    import urllib.request

    request = urllib.request.Request(address, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        return f"{address} does not answer: {getattr(error, 'reason', None) or error}"
    return ""
