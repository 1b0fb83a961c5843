"""Pictures of what the systems see."""
