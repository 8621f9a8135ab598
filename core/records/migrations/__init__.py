"""How the tables came to be, one file a step. Run at start by `core.records.db.open_database`, never by hand."""
