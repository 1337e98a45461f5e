"""The page as HTML: a frame around sections, which are made of tables, pictures and drawings."""
