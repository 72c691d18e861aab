"""Records to token ids and masks (render), ids to token trees (tree), and the order of batches."""
