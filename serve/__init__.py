"""What shows `.dcae` files to people: the service, its page, and the decoder for browsers (`web/`)."""
