"""Special tokens that a text spells (`</s>`, `<pad>`, `<|im_end|>`) are text, not tokens.

So are the tokens that a chat template writes (`<think>`), which not every tokenizer calls special. Only texts that
spell one are encoded here; all others get the ids that the tokenizer itself gives them.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Planes 15 and 16 are for private use. While a text is on its way, a real special token is written in the one and
# a spelled special token in the other.
_REAL, _SPELLED = 0xF0000, 0x100000


class LiteralTokenizer:
    """A tokenizer for which spelled special tokens are ordinary text; its ids are those of the original.

    Its special tokens have other, private names, also in the vocabulary: a unigram model or one of whole words
    would find `</s>` there again, which the option `split_special_tokens` does not keep it from.

    Args:
        tokenizer: the original.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.eos_token_id = tokenizer.eos_token_id
        self._original: Any = tokenizer
        written = tokenizer.chat_template or ""
        written = "\n".join(written.values()) if isinstance(written, dict) else str(written)
        names = set(tokenizer.all_special_tokens)
        for token in tokenizer.added_tokens_decoder.values():
            # An added token that is a word, as `user`, is one in a template too.
            if token.special or (token.content in written and not token.content.strip().isalnum()):
                names.add(token.content)
        self._names = sorted((name for name in names if name.strip()), key=lambda name: (-len(name), name))
        self._pattern = re.compile("|".join(map(re.escape, self._names)) or r"(?!)")
        self._backend: Any = None

    def spelled(self, *texts: str) -> list[str]:
        """The special tokens that texts spell, as often as they do."""
        return [name for text in texts for name in self._pattern.findall(text)]

    def mask(self, text: str) -> str:
        """A text whose spelled special tokens a chat template's own cannot be confused with."""
        return self._pattern.sub(lambda found: chr(_SPELLED + self._names.index(found[0])), text)

    def unmask(self, text: str) -> str:
        """What `encode` takes, from a rendered text: the template's special tokens real, the masked ones text."""
        text = self._pattern.sub(lambda found: _private(self._names.index(found[0])), text)
        last = chr(_SPELLED + max(0, len(self._names) - 1))
        masked = re.compile(f"[{chr(_SPELLED)}-{last}]")
        return masked.sub(lambda found: self._names[ord(found[0]) - _SPELLED], text)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The token ids of a text."""
        if self._backend is None:
            self._backend = self._renamed()
        if self._backend is not None:
            return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)
        # Tokenizers written in Python have no backend to rename in: parts between real special tokens.
        ids: list[int] = []
        parts = re.split(f"({chr(_REAL)}[0-9]+{chr(_REAL)})", text)
        for part in parts:
            if part.startswith(chr(_REAL)):
                ids.append(self._original.convert_tokens_to_ids(self._names[int(part[1:-1])]))
            elif part:
                ids += self._original.encode(part, add_special_tokens=False, split_special_tokens=True)
        built: Any = getattr(self._original, "build_inputs_with_special_tokens", None)
        return list(built(ids)) if add_special_tokens and built else ids

    def _renamed(self) -> Any:
        """A copy of the backend with private names; None for tokenizers without one."""
        from tokenizers import Tokenizer

        backend = getattr(self._original, "backend_tokenizer", None)
        if backend is None:
            return None
        rename = {name: _private(number) for number, name in enumerate(self._names)}
        state = json.loads(backend.to_str())
        state["truncation"] = state["padding"] = None
        for token in state.get("added_tokens", []):
            token["content"] = rename.get(token["content"], token["content"])
        model = state["model"]
        vocabulary = model.get("vocab")
        if isinstance(vocabulary, dict):
            model["vocab"] = {rename.get(name, name): number for name, number in vocabulary.items()}
        elif isinstance(vocabulary, list):
            model["vocab"] = [[rename.get(name, name), score] for name, score in vocabulary]
        if "merges" in model:  # SentencePiece's have pieces that would be put together to a special token
            model["merges"] = [merge for merge in model["merges"] if not rename.keys() & _pieces(merge)]
        if model.get("unk_token") in rename:
            model["unk_token"] = rename[model["unk_token"]]
        return Tokenizer.from_str(json.dumps(state))


def _pieces(merge: Any) -> set[str]:
    """The two pieces of a merge, and what they become."""
    one, other = merge.split(" ") if isinstance(merge, str) else merge
    return {one, other, one + other}


def _private(number: int) -> str:
    return f"{chr(_REAL)}{number}{chr(_REAL)}"


@lru_cache(maxsize=8)
def _literal(tokenizer: Any) -> LiteralTokenizer:
    return LiteralTokenizer(tokenizer)


def literal_tokenizer(tokenizer: Any) -> LiteralTokenizer | None:
    """The literal tokenizer beside a tokenizer, made once; None where it names no special tokens."""
    return _literal(tokenizer) if hasattr(tokenizer, "added_tokens_decoder") else None
