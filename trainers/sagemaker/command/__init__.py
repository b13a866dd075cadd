"""The command line of cloud jobs: consent, launch, studies."""
