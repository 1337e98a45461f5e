"""Images of a data set: the array, the table, augmentation, the order in which they are drawn."""
