"""ResNets, their weights, and the MXNet that runs them."""
