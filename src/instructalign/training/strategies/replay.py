"""Experience replay (paper, section 3.2; Rolnick et al. 2019, "Experience Replay for Continual Learning")."""

from __future__ import annotations

from instructalign.training.strategies.base import Strategy


class Replay(Strategy):
    """Past examples stand among the new ones; the mixture has already done all of it (`instructalign.mixture`)."""

    past_data = "used"
