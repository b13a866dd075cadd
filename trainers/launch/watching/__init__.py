"""A training watched: rules over its curves and its machine, here or elsewhere; messages to people."""
