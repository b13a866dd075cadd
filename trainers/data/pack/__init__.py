"""Writing data sets in the forms that training and SageMaker read."""
