"""Train image classifiers with MXNet and GluonCV, here or as a SageMaker job.

``python -m trainers.run`` is the door.
"""
