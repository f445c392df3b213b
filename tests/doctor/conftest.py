from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from healthy import project_config, write_project

from instructalign.config import Config
from tiny import save_tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("doctor") / "base")


@pytest.fixture
def configure(tmp_path: Path, base: Path) -> Callable[..., Config]:
    """Makes the configuration of a project in `tmp_path` in which all is well, with keys of it replaced."""
    write_project(tmp_path)
    return partial(project_config, tmp_path, base)
