"""Inference apart from the pages: a desk where images wait and models answer, here or in a process of its own."""
