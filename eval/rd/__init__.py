"""Rate-distortion of codecs, from real files: `dcae eval rd` (installed as `dcae.eval.rd.measure`)."""
