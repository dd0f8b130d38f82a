"""Time and memory of coding, beside other codecs: `dcae eval speed` (installed as `dcae.eval.speed.measure`)."""
