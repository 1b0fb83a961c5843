"""The command line `hf-mner`."""
