"""The papers' tables rerun by one command: which runs they need, what is missing for them, and what came out."""
