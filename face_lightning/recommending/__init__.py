"""What a finished run answers: recommendations, similar entities, words, steering, by original ids."""
