"""Measuring codecs on pictures, by file bytes (installed as `dcae.eval`)."""
