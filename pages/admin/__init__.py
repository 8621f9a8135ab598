"""Pages for: admin."""
