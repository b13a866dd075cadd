"""What a ranking may claim: intervals from seeds and pictures, tests between rows, ranks, what selection adds."""
