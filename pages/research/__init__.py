"""Pages for: research."""
