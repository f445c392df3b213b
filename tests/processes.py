"""Processes of their own for tests, forked from one that has imported the libraries: importing takes 7 s of CPU.

They have nothing of the test's process but its environment at the first start. What must begin as a user's process
does, or reads the environment where libraries are imported, needs an interpreter of its own.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch", "transformers", "peft", "accelerate", "datasets", "instructalign.training.train"]
)


def start(target: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """Runs a function of a module, with paths given as text."""
    plain = tuple(str(each) if isinstance(each, Path) else each for each in arguments)
    process = CONTEXT.Process(target=target, args=plain)
    process.start()
    return process


def exit_code(process: ForkServerProcess, seconds: float = 120) -> int:
    """How a process ended, minus its signal's number where one killed it; waits for the end."""
    process.join(timeout=seconds)
    assert process.exitcode is not None, f"still runs after {seconds} s"
    return process.exitcode
