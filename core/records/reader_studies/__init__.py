"""Reader studies on this site's own cases: the protocol, reading by it, and the scores that come of it."""
