"""Using a model: chat in the terminal, before and after side by side in a browser, files translated."""

from __future__ import annotations

from instructalign.interact.chat_session import Chat, chat

__all__ = ["Chat", "chat"]
