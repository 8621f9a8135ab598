"""Synthetic studies and demonstration users: everything made in code and labelled so."""
