"""From bytes to an upright picture, to the square a model reads, and back to an overlay."""
