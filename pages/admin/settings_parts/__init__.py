"""Pieces of the page Settings."""
