"""Reads, searches, changes and commits files below the directories that an operator names."""
