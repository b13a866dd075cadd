"""What a study says about its question: effects of its factors, what matters, what is best for how much money."""
