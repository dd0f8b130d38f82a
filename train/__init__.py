"""Training of DCAE networks (installed as `dcae.train`)."""
