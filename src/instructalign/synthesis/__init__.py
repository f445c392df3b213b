"""Self-made replay: past data that the base model writes itself."""
