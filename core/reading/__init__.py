"""Reading a study: how it begins, what the models say of it and who is shown it, and the report of it."""
