"""Uploads a run to the Hub: the model, its card, and the report without sentences of the corpora."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from instructalign.errors import InstructAlignError, ModelError, first_line
from instructalign.files import file_hash, read_object
from instructalign.hub_access import hub_problem, is_network_error
from instructalign.mixture.carried_replay import MEMORY_FILES
from instructalign.progress import Progress, silent
from instructalign.report.run_report import build_run_report
from instructalign.report.run_results import read_runs
from instructalign.sharing.model_card import model_card
from instructalign.sharing.privacy import scrubbed

# Bytes above which a file is uploaded and kept by itself, so that an interruption loses only it.
_LARGE = 5_000_000
_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", *MEMORY_FILES)


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file to upload.

    Attributes:
        path: its place in the repository.
        content: a file on this machine, or the text itself.
    """

    path: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True, slots=True)
class Pushed:
    """What an upload did: the repository's address, and the files that were sent and those already there."""

    url: str
    sent: tuple[str, ...]
    there: tuple[str, ...]


def shared_files(
    run: str | Path, repo: str, *, with_texts: bool = False, base: str = "", licence: str = ""
) -> list[SharedFile]:
    """What `push` uploads of a run, without paths of this machine or e-mail addresses.

    Args:
        run: the run's folder.
        repo: the repository's name, for the card.
        with_texts: whether the report shows sentences of the corpora and test sets, and the model's replay memory
            goes along.
        base: the Hub name of an adapter's base, where the run had it in a folder.
        licence: the model's licence, for the card.

    Raises:
        InstructAlignError: the Hub takes no repository of that name.
        RunFolderError: the folder is not a run's, or its model is not trained yet.
        ModelError: an adapter's base is a folder of this machine.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not re-exported

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InstructAlignError(f"{repo!r} is not a name on the Hub. {first_line(error)}") from None
    if "/" not in repo:
        raise InstructAlignError(f"{repo!r} does not say whose repository it is. Write it as user/name.")
    folder = Path(run)
    [results] = read_runs([folder])
    built = build_run_report([folder], with_texts=with_texts)
    card = model_card(folder, repo=repo, licence=licence, report=built)
    record = results.record if with_texts else _without_texts(results.record)
    about = {**built.about, "rows": [asdict(row) for row in built.rows]}
    texts = {
        "README.md": card,
        "report/report.html": built.page,
        "report/report.md": built.markdown,
        "report/report.json": json.dumps(about, ensure_ascii=False, indent=1),
        "report/config.yaml": results.config_text,
        "report/run.json": json.dumps(record, ensure_ascii=False, indent=2),
    }
    files = [SharedFile(path, scrubbed(text, results.config).encode()) for path, text in texts.items()]
    for path in sorted((folder / "model").rglob("*")):
        name = path.relative_to(folder / "model").as_posix()
        if not path.is_file() or name == "README.md" or any(part.startswith(".") for part in Path(name).parts):
            continue
        content: Path | bytes = path
        if name == "adapter_config.json":
            content = _adapter_settings(path, base)
        elif name in _SETTINGS:
            content = scrubbed(path.read_text(encoding="utf-8"), results.config).encode()
        if with_texts or name not in MEMORY_FILES:
            files.append(SharedFile(name, content))
    return files


def push(
    run: str | Path,
    repo: str,
    *,
    public: bool = False,
    with_texts: bool = False,
    base: str = "",
    licence: str = "",
    progress: Progress = silent,
) -> Pushed:
    """Uploads a run to a repository of the Hub, which is private unless asked for otherwise.

    What the repository already has is not sent again, so that an interrupted upload continues; the card is last.

    Args:
        run, with_texts, base, licence: as for `shared_files`.
        repo: the repository, `user/name`.
        public: whether everybody may see it.
        progress: reports each file.

    Raises:
        InstructAlignError: as `shared_files`; the Hub is away or refuses; the repository is public already.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    files = shared_files(run, repo, with_texts=with_texts, base=base, licence=licence)
    api = HfApi()
    disable_progress_bars()  # ours is shown
    try:
        url = str(api.create_repo(repo, private=not public, exist_ok=True))
        if not public and not api.model_info(repo).private:
            raise InstructAlignError(
                f"{repo} is there already, and public: choose another name, or give --public."
            )
        there = {each.path: each for each in api.list_repo_tree(repo, recursive=True)}
        missing = [file for file in files if not _is_there(file, there.get(file.path))]
        alone = [[file] for file in missing if file.size > _LARGE]
        small = [file for file in missing if file.size <= _LARGE]
        total, done = sum(file.size for file in missing), 0
        for batch in [*alone, *([small] if small else [])]:
            progress("uploading (bytes)", done, total, batch[0].path)
            operations = [CommitOperationAdd(file.path, file.content) for file in batch]
            message = f"Add {batch[0].path}" if len(batch) == 1 else "Add the card, the report and the settings"
            api.create_commit(repo, operations, commit_message=message)
            done += sum(file.size for file in batch)
            progress("uploading (bytes)", done, total, batch[-1].path)
    except InstructAlignError:
        raise
    except Exception as error:
        if not (is_network_error(error) or isinstance(error, (OSError, RuntimeError))):
            raise
        raise InstructAlignError(
            f"{repo}: {_upload_problem(error)}. Then run the same command again: it continues."
        ) from error
    finally:
        enable_progress_bars()
    sent = tuple(file.path for file in missing)
    return Pushed(url, sent, tuple(file.path for file in files if file.path not in sent))


def _upload_problem(error: Exception) -> str:
    """Why the Hub did not take a file, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"the Hub does not let you write there (HTTP {status}): log in with `hf auth login` and a token that "
            "may write, or set HF_TOKEN"
        )
    text = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
    problem = hub_problem(error)
    if "not in the local cache" in problem:
        problem = "the Hub does not answer: check the network, or leave HF_HUB_OFFLINE unset"
    return problem or text.rstrip(".")


def _is_there(file: SharedFile, entry: Any) -> bool:
    """Whether the repository has a file with the same content."""
    from huggingface_hub.utils.sha import git_hash

    if entry is None or getattr(entry, "size", None) != file.size:
        return False
    if entry.lfs is not None:
        return isinstance(file.content, Path) and bool(entry.lfs.sha256 == file_hash(file.content))
    content = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
    return bool(entry.blob_id == git_hash(content))


def _without_texts(value: Any) -> Any:
    """A run's record without its examples of texts."""
    if isinstance(value, Mapping):
        return {
            key: _without_texts(inner)
            for key, inner in value.items()
            if key != "examples" or isinstance(inner, int)
        }
    return [_without_texts(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _adapter_settings(path: Path, base: str) -> bytes:
    """The settings of an adapter, with its base by its name on the Hub.

    Raises:
        ModelError: the base is a folder, which nobody else has.
    """
    settings = read_object(path, json.loads)
    named = base or str(settings.get("base_model_name_or_path") or "")
    if Path(named).is_absolute() or named.startswith((".", "~")) or Path(named).is_dir():
        raise ModelError(
            f"{path} names the folder {named} as the adapter's base, which others do not have. Give its name on "
            "the Hub with --base user/name, or train with model.adapter.merge: true."
        )
    return json.dumps({**settings, "base_model_name_or_path": named}, indent=2).encode()
