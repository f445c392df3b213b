"""Puts configs/ into the wheel, as instructalign/configs; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Builds the package with the shipped configurations."""

    def run(self) -> None:
        """Copies them after the package's own files; an editable install reads them where they are."""
        super().run()
        if not self.editable_mode:
            shutil.copytree("configs", Path(self.build_lib) / "instructalign" / "configs", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
