"""An exported GGUF in llama.cpp beside the same model in transformers: the same tokens, the same greedy text.

The model (a run's folder, or a model's) is exported by `instructalign export --format gguf`, then asked with
prompts in its chat template, once by transformers in 32-bit floats and once by llama.cpp, through node-llama-
cpp's ready-made build. Counted are prompts that both cut into the same tokens and answers that are the same to
the last character. Rounding may turn a near tie, so that an answer that differs is shown with the place where
it does. Exit code 1 if a prompt is cut differently, the GGUF's chat template is another, or fewer answers than
`--least` are the same.

    mkdir node && cd node && npm init -y && npm install --ignore-scripts node-llama-cpp && cd ..
    python benchmarks/gguf.py runs/mine --node node --quantise f32
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROMPTS = [
    f"{order} {text}"
    for order in ("Translate into Javanese:", "Say in other words:", "Answer in one sentence:", "Lanjutkan:")
    for text in (
        "The market opens at six in the morning.",
        "Where does the river begin?",
        "“Ngapunten,” said 3 of the 12 children — twice.",
        "My mother's café sells naïve paintings; ꦱꦸꦒꦼꦁ 😀",
        "Water boils at 100 °C.",
    )
]
# greedy, token by token, on the processor; one line of JSON for each prompt
NODE = """
import {pathToFileURL} from "url";
const [modules, file, given, most] = process.argv.slice(2);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(modules + "/node-llama-cpp/dist/index.js"));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({contextSize: 1024, threads: 1});
const sequence = context.getSequence();
console.log(JSON.stringify({template: model.fileInfo.metadata.tokenizer.chat_template ?? null}));
for (const prompt of JSON.parse(given)) {
  const read = model.tokenize(prompt, true), written = [];
  await sequence.clearHistory();
  for await (const token of sequence.evaluate(read, {temperature: 0})) {
    if (model.isEogToken(token) || written.push(token) >= Number(most)) break;
  }
  console.log(JSON.stringify({read, text: model.detokenize(written)}));
}
process.exit(0);
"""


def main() -> None:
    """Exports, asks both, prints what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a run's folder, or a model's")
    parser.add_argument("--node", type=Path, required=True, help="the folder where npm installed node-llama-cpp")
    parser.add_argument("--quantise", default="f32", help="f32, f16, bf16 or q8_0")
    parser.add_argument("--tokens", type=int, default=32, help="the most tokens of an answer")
    parser.add_argument("--least", type=int, default=18, help="answers of the twenty that must be the same")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    template, plain = with_transformers(options.model, options.tokens)
    with TemporaryDirectory() as place:
        export = [sys.executable, "-m", "instructalign", "export", str(options.model), "--format", "gguf"]
        subprocess.run([*export, "--quantise", options.quantise, "--out", f"{place}/made"], check=True)
        stored, ours = with_llama_cpp(f"{place}/made/model.gguf", options, [each["prompt"] for each in plain])
    tokens = sum(a["read"] == b["read"] for a, b in zip(plain, ours, strict=True))
    texts = sum(a["text"] == b["text"] for a, b in zip(plain, ours, strict=True))
    for one, other in zip(plain, ours, strict=True):
        if one["text"] != other["text"]:
            pairs = enumerate(zip(one["text"], other["text"], strict=False))
            at = next((place for place, (a, b) in pairs if a != b), min(len(one["text"]), len(other["text"])))
            print(f"differ at character {at}:\n  transformers {one['text']!r}\n  llama.cpp    {other['text']!r}")
    print(f"{options.model}, {options.quantise}: chat template {'the same' if stored == template else 'DIFFERS'};")
    print(f"{tokens} of {len(plain)} prompts cut into the same tokens; {texts} of {len(plain)} answers the same")
    sys.exit(stored != template or tokens < len(plain) or texts < options.least)


def with_transformers(model: Path, most: int) -> tuple[str | None, list[dict[str, Any]]]:
    """The chat template, and each prompt in it with its tokens and the greedy answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model / "model" if (model / "model").is_dir() else model
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers = []
    for text in PROMPTS:
        prompt = text
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": text}]
            prompt = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        read = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            made = loaded.generate(read, do_sample=False, max_new_tokens=most, repetition_penalty=1.0)
        written = made[0, read.shape[1] :].tolist()
        if written[-1] in ends(loaded):
            written.pop()
        answers.append({"prompt": prompt, "read": read[0].tolist(), "text": tokenizer.decode(written)})
    return tokenizer.chat_template, answers


def ends(model: Any) -> list[int]:
    """The tokens that end an answer."""
    found = model.generation_config.eos_token_id
    return found if isinstance(found, list) else [] if found is None else [found]


def with_llama_cpp(
    file: str, options: argparse.Namespace, prompts: list[str]
) -> tuple[str | None, list[dict[str, Any]]]:
    """The GGUF's chat template, and each prompt's tokens and answer."""
    # A file, since node-llama-cpp tries its library with node's own arguments.
    script = Path(file).with_name("ask.mjs")
    script.write_text(NODE, encoding="utf-8")
    modules = str((options.node / "node_modules").resolve())
    command = ["node", str(script), modules, file, json.dumps(prompts), str(options.tokens)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    first, *answers = (json.loads(line) for line in lines if line.startswith("{"))
    return first["template"], answers


if __name__ == "__main__":
    main()
