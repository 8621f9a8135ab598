"""How the tables came to be, one file a step. Run at start by `core.records.database.db.open_database`, never by
hand."""
