"""Training of networks that enlarge pictures, a task of the loop in `dcae.train`."""
