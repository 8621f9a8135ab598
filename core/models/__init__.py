"""Architectures, fitted models, their cards, predictions and explanations."""
