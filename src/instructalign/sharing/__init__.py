"""What leaves the machine: the model card, the upload to the Hub, and the model in other programs' formats."""
