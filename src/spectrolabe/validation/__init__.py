"""Validation: how good are the labels, against truth, other surveys, clusters and repeats."""
