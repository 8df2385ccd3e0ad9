"""Raw data in, packed arrays out: sources, splits, the packed format, batches."""
