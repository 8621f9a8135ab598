"""From a manifest to fitted weights with a card."""
