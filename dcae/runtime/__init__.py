"""Engines, which run a model: one protocol, arrays in and arrays out, and one file per engine."""
