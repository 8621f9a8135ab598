"""Pieces of pages that two pages or more use."""
