from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

# One thread: the models are tiny, and bit-identical results across processes need the same number in each.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


# How long an example takes says more about the machine than about the code. In CI the examples are the same each
# time, so that it shows what a change did; everywhere else they are new.
settings.register_profile("steady", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; tests that need it are skipped where it is not at hand."""
    place = os.environ.get("INSTRUCTALIGN_DATA")
    folder = Path(place) if place else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set INSTRUCTALIGN_DATA to the folder that has it")
    return folder


def pytest_collection_finish() -> None:
    """Leaves what collecting imported out of garbage collections, of which each training asks for several."""
    gc.collect()
    gc.freeze()
