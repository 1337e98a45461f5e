"""Raw trees → one image store a data set; one reader a data set."""
