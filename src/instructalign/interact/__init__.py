"""Using a model: chat in the terminal, before and after side by side in a browser, files translated."""

from __future__ import annotations

from instructalign.interact.chat_session import Chat, chat
from instructalign.interact.file_translation import translate, translate_file

__all__ = ["Chat", "chat", "translate", "translate_file"]
