"""What goes back to an archive of one read, each kind of object in a file of its own."""
