"""The rows: one file each, found by their place here. A file that is added is a row that is run."""
