"""What a run of training is made of."""
