"""The same run as a SageMaker training job: built, checked before it costs, watched, accounted for.

boto3 is imported in this package alone, and only inside functions: the ``sagemaker`` extra installs it.
"""
