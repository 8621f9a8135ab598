"""Pages for: reader."""
