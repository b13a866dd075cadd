"""AWS's services as the rest of this package uses them."""
