"""How a study and its runs are, while they train and afterwards: what journals say, as a table."""
