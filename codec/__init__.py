"""Pictures to `.dcae` files and back (installed as `dcae.codec`)."""
