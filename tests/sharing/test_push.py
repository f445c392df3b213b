"""What leaves the machine: the card, the upload, and nothing private with either."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, constants

from hub_server import TOKEN, HubServer
from instructalign import load_config, run
from instructalign.errors import InstructAlignError, ModelError
from instructalign.run_folder import open_folder, training_hash
from instructalign.sharing.hub_upload import shared_files
from instructalign.sharing.model_card import model_card
from instructalign.sharing.privacy import scrubbed
from test_cli import Done, call
from tiny import save_tiny

SECRET = "the secret garden of grandmother {} is behind the house"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on data that must not get out, in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("my private") / "Nenek Sari"
    folder.mkdir()
    save_tiny(folder / "base")
    (folder / "base" / "README.md").write_text("---\nlicense: apache-2.0\n---\nA base.\n", encoding="utf-8")
    rows = [f"{SECRET.format(i)}\tkebon rahasia nenek {i} ana mburi omah" for i in range(24)]
    rows += ["___ ___\t123 456"] * 2
    (folder / "pairs.tsv").write_text("English\tJavanese\n" + "\n".join(rows) + "\n", encoding="utf-8")
    past = [{"inputs": f"is the secret number {i} even?", "targets": "yes"} for i in range(6)]
    (folder / "past.jsonl").write_text("".join(json.dumps(line) + "\n" for line in past), encoding="utf-8")
    corpus = {"format": "tsv", "path": "pairs.tsv", "columns": {"eng": "English", "jav": "Javanese"}}
    terms = {"license": "CC-BY-NC-4.0", "provenance": "Told by Nenek Sari, with her consent; sari@example.org"}
    config = {
        "model": {"base": "base"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{**corpus, **terms}],
        "filter": {"preset": "standard"},
        "instructions": {"heldout": 6},
        "replay": {"source": {"format": "jsonl", "path": "past.jsonl", "licence": "CC-BY-SA-4.0"}, "size": 4},
        "memory": {"per_stage": 4},
        "training": {"steps": 2, "batch_size": 4, "log_every": 1, "report_to": []},
        "evaluation": {"tasks": ["heldout_translation"], "items": 4, "bootstrap": 50},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run(load_config(folder / "mine.yaml"), folder / "run")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer({})
    for name, value in {"ENDPOINT": server.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.close()


def push(project: Path, *options: str) -> Done:
    return call("push", project / "run", "me/secret", *options)


def private(files: Mapping[str, bytes], project: Path) -> list[str]:
    """What of the user's is in the texts of files: paths, addresses, sentences."""
    bad = [str(project), str(project.parent), "Nenek Sari/", "sari@example.org", "secret garden", "kebon rahasia"]
    bad.append("secret number")
    texts = {
        path: content.decode("utf-8", "ignore") for path, content in files.items() if "safetensors" not in path
    }
    found = [f"{path}: {each}" for path, text in texts.items() for each in bad if each in text]
    path = re.compile(r"(?<![\w.:/<])/(?:home|tmp|work|usr|root|Users)/[\w./-]+")
    return found + [f"{name}: {hit}" for name, text in texts.items() for hit in path.findall(text)]


def test_what_is_pushed_is_private_and_interrupted_uploads_continue(hub: HubServer, project: Path) -> None:
    hub.breaks_at = "README.md"
    first = push(project)
    assert first.returncode == 1
    assert "Traceback" not in first.stderr
    assert "continues" in first.stderr
    assert (hub.commits, "POST /api/models/me/secret/commit/main" in hub.asked) == ([], True)
    hub.breaks_at = ""
    second = push(project)
    assert second.returncode == 0, second.stderr
    sent = hub.models["me/secret"]
    assert hub.public == set()
    names = {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "report/report.html",
        "report/run.json",
    }
    assert names <= set(sent)
    assert not {"replay.jsonl", "instructalign.json"} & set(sent)
    assert sent["model.safetensors"] == (project / "run" / "model" / "model.safetensors").read_bytes()
    uploads = [each for each in hub.asked if each.startswith("PUT /lfs/")]
    assert len(uploads) == 1  # the weights were there when the second try came
    assert private(sent, project) == []
    assert (project / "run" / "report.html").read_text(encoding="utf-8").count("secret garden") > 0
    commits = len(hub.commits)
    third = push(project)
    assert third.returncode == 0, third.stderr
    assert (len(hub.commits), "sent 0 files" in third.stdout) == (commits, True)


def test_with_texts_they_go_along(project: Path) -> None:
    files = {file.path: file.content for file in shared_files(project / "run", "me/secret", with_texts=True)}
    assert b"secret garden" in files["report/report.html"]
    assert {"replay.jsonl", "instructalign.json"} <= set(files)
    assert str(project).encode() not in files["instructalign.json"]


def test_a_dry_run_sends_nothing(hub: HubServer, project: Path) -> None:
    done = push(project, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert (hub.asked, hub.models) == ([], {})
    listed = {line.split()[0] for line in done.stdout.splitlines() if line}
    assert {"model.safetensors", "README.md", "report/report.md"} <= listed


@pytest.mark.parametrize("name", ["bad name/x", "a/b/c", "me/", "alone", "me/-x"])
def test_a_name_that_the_hub_does_not_take(project: Path, name: str) -> None:
    with pytest.raises(InstructAlignError, match=re.escape(repr(name))):
        shared_files(project, name)


def test_refusals_say_what_to_do(hub: HubServer, project: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_wrong")
        unknown = push(project)
    assert (unknown.returncode, "Traceback" in unknown.stderr) == (1, False)
    assert "hf auth login" in unknown.stderr
    hub.models["me/secret"], hub.public = {}, {"me/secret"}
    public = push(project)
    assert (public.returncode, hub.commits) == (1, [])
    assert "--public" in public.stderr
    assert push(project, "--public").returncode == 0


def test_the_card_says_data_licences_consent_and_results(project: Path) -> None:
    card = ModelCard((project / "run" / "model" / "README.md").read_text(encoding="utf-8"))
    assert card.data.language == ["en", "jv"]
    assert card.data.license is None  # BY-NC and BY-SA do not go together
    assert card.data.base_model is None  # a folder, which nobody else has
    results = card.data.eval_results
    assert {(each.dataset_config, each.metric_type) for each in results} >= {("L2", "chrf"), ("jav", "chrf")}
    low, high = results[0].metric_args["confidence_interval_95"]
    assert low <= results[0].metric_value <= high
    text = card.content
    assert "| corpora.0 | pairs.tsv | CC-BY-NC-4.0 |" in text
    assert "Told by Nenek Sari, with her consent" in text
    assert "past.jsonl: nothing is said of who made it" in text
    assert "CC-BY-NC-4.0) forbids commercial use and past.jsonl (CC-BY-SA-4.0)" in text
    assert "What was lost" in text
    assert private({"README.md": str(card).encode()}, project) == []
    with pytest.raises(InstructAlignError, match="is not a run folder"):
        model_card(project / "base")


def test_licence_keys_change_no_hash(project: Path) -> None:
    config = load_config(project / "mine.yaml")
    other = load_config(project / "mine.yaml", [("corpora.0.license", "MIT"), ("corpora.0.provenance", None)])
    assert (config.corpora[0].licence, other.corpora[0].licence) == ("CC-BY-NC-4.0", "MIT")
    assert training_hash(config) == training_hash(other)
    open_folder(project / "run", config)


def test_an_adapter_is_pushed_with_the_hub_name_of_its_base(project: Path, tmp_path: Path) -> None:
    settings = [("model.adapter", {"type": "lora", "r": 2, "merge": False}), ("memory", None)]
    run(load_config(project / "mine.yaml", settings), tmp_path / "adapter")
    with pytest.raises(ModelError, match="--base"):
        shared_files(tmp_path / "adapter", "me/x")
    files = {file.path: file.content for file in shared_files(tmp_path / "adapter", "me/x", base="you/base")}
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "you/base"
    card = ModelCard((tmp_path / "adapter" / "model" / "README.md").read_text(encoding="utf-8"))
    assert card.data.library_name == "peft"
    assert private({name: bytes(c) for name, c in files.items() if isinstance(c, bytes)}, project) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--out /home/me/runs/a run", "--out a run"),
        ("see https://arxiv.org/abs/2305.13627 and/or n/a", "see https://arxiv.org/abs/2305.13627 and/or n/a"),
        ("</td></tr> 1/2/3 km/h", "</td></tr> 1/2/3 km/h"),
        ("C:\\Users\\me\\pairs.tsv", "pairs.tsv"),
        ("~/data/pairs.tsv: me.too@uni.ac.id", "pairs.tsv: [e-mail address]"),
        ("'/srv/My Data/a b.tsv'", "'a b.tsv'"),
        ("configs/toy/replay.yaml", "configs/toy/replay.yaml"),
        ("file:///home/me/x.csv", "x.csv"),
        ("| /home/ana\\_maria/my\\_runs/a\\_b.tsv, ok |", "| a\\_b.tsv, ok |"),  # in Markdown
        ("| /srv/My\\_own data/a\\_b.tsv |", "| a\\_b.tsv |"),
        ("ana\\_maria@uni.ac.id", "[e-mail address]"),
        ('"by\\nana@uni.ac.id"', '"by\\[e-mail address]"'),  # in JSON
        ('"made from\\n/home/me/x.csv\\tand"', '"made from\\nx.csv\\tand"'),
        ("hf://datasets/bigscience/xP3/en/*.jsonl", "hf://datasets/bigscience/xP3/en/*.jsonl"),
    ],
)
def test_scrubbing(text: str, expected: str) -> None:
    config = {"corpora": [{"path": "/srv/My Data/a b.tsv"}, {"path": "/srv/My_own data/a_b.tsv"}]}
    assert scrubbed(text, config) == expected
