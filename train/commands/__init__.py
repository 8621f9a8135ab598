"""The sub-commands of `python -m train`, one a file."""
