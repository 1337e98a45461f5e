"""Raw trees → one image store for each data set; one reader for each data set."""
