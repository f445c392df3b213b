"""From the command to the model's forward pass in training, a reader follows at most ten functions of ours."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_train import settings
from transformers import LlamaForCausalLM

import instructalign
from instructalign.cli import main

PACKAGE = Path(instructalign.__file__).parent


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_at_most_ten_frames_from_the_command_to_the_forward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks: list[list[str]] = []
    forward = LlamaForCausalLM.forward

    def recording(self: Any, *args: Any, **keywords: Any) -> Any:
        if self.training:
            ours = [each for each in traceback.extract_stack() if Path(each.filename).is_relative_to(PACKAGE)]
            stacks.append([f"{Path(each.filename).stem}.{each.name}" for each in ours])
        return forward(self, *args, **keywords)

    monkeypatch.setattr(LlamaForCausalLM, "forward", recording)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings(tmp_path, steps=1, micro_batch_size=4)), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["instructalign", "run", str(path), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    assert stacks
    for frames in stacks:
        assert frames[0] == "__init__.main"
        assert "trainer.compute_loss" in frames
        assert len(frames) <= 10, frames
