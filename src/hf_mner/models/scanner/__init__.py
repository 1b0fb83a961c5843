"""SCANNER: span candidate detection, then recognition and grounding of each candidate with knowledge prompts."""
