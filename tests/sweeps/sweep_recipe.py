"""A recipe on the toy family whose runs take a second."""

from __future__ import annotations

from typing import Any

CONFIG: dict[str, Any] = {
    "seed": 1,
    "model": {"base": "toy"},
    "languages": {
        "known": ["qka", "qkb"],
        "new": ["qna"],
        "related": ["qra"],
        "names": {"qka": "Miza", "qkb": "Biduf", "qna": "Sinup", "qra": "Uzaf"},
    },
    "corpora": [{"format": "toy", "rows": 40}],
    "instructions": {"heldout": 5, "templates": ["toy"], "objectives": {"tlm": 1, "mt": 1}},
    "replay": {"source": {"format": "toy", "rows": 50}, "size": 10},
    "training": {"steps": 2, "batch_size": 4, "log_every": 1, "checkpoint_every": 1, "report_to": []},
    "evaluation": {"tasks": ["toy_sentiment"], "items": 6, "bootstrap": 20},
}
