"""HamLearning: named entities by aligning text and image at several levels."""
