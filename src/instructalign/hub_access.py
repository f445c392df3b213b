"""The Hugging Face Hub where it is away, slow, gated, rate limited or has no such name: said in words, soon."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from functools import cache

from instructalign.errors import first_line

logger = logging.getLogger(__name__)

_LIBRARIES = ("httpx", "httpcore", "huggingface_hub", "fsspec", "aiohttp", "requests", "urllib3")
_UNREACHABLE = {"OfflineModeIsEnabled", "ConnectionError", "ConnectError", "TimeoutException", "TransportError"}
_UNREACHABLE |= {"LocalEntryNotFoundError", "TimeoutError"}
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def prepare_hub() -> None:
    """Goes offline where the Hub does not answer, before its libraries try again and again for half a minute.

    From then on this process, and those that it starts, read what is in the local cache, as with HF_HUB_OFFLINE=1.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    if problem := _no_answer(constants.ENDPOINT):
        logger.warning(
            "%s does not answer (%s); only what is in the local cache is used", constants.ENDPOINT, problem
        )
        constants.HF_HUB_OFFLINE = True
        os.environ["HF_HUB_OFFLINE"] = "1"
        if "datasets" in sys.modules:  # it has its own copy of the setting
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True


@cache
def _no_answer(endpoint: str) -> str:
    """Why the Hub gives no answer, of whatever kind, to one short question; empty if it does."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(endpoint, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:
        return first_line(error).rstrip(".")
    return ""


def is_network_error(error: BaseException) -> bool:
    """Whether an error comes from the libraries that talk to the Hub."""
    return type(error).__module__.startswith(_LIBRARIES)


def hub_problem(error: BaseException) -> str:
    """What went wrong with a model or dataset of the Hub, and what to do; empty if it does not show.

    The errors of the libraries involved (huggingface_hub, httpx, fsspec, datasets, transformers) share no base and
    wrap one another, so that the whole chain is looked at.
    """
    chain = list(_chain(error))
    classes = {each.__name__ for link in chain for each in type(link).__mro__}
    answers = (getattr(getattr(link, "response", None), "status_code", None) for link in chain)
    status = next((answer for answer in answers if isinstance(answer, int)), 0)
    said = next((str(link) for link in chain if type(link).__name__ == "DatasetNotFoundError"), "")
    if "GatedRepoError" in classes or status == 403 or " gated " in said:
        return f"it is gated: accept its terms on its page, then {_LOG_IN}"
    if status == 429:
        return f"the Hub limits how much one address may ask (HTTP 429): wait some minutes, or {_LOG_IN}"
    if status >= 500:
        return f"the Hub fails (HTTP {status}): try again later"
    if status == 401 or "RepositoryNotFoundError" in classes or said:
        return f"the Hub has no such name, or shows it only to some: check the name; if it is private, {_LOG_IN}"
    if "StopIteration" in classes:  # of a search for files
        return "the Hub has no such name or no such files, or shows them only to some: check both"
    if "RevisionNotFoundError" in classes:
        return "it has no such revision: check the branch, tag or commit"
    if classes & _UNREACHABLE:
        return "the Hub does not answer, and it is not in the local cache: check the network, or use a local copy"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
