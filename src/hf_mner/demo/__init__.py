"""Showing what the package does."""
