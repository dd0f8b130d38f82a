"""What shows `.dcae` files to people: so far the decoder for browsers (`web/`) and the models that it loads."""
