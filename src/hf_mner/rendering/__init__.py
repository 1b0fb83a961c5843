"""Entities for readers: a text with its entities marked, and its image with their boxes, as HTML."""
