"""What leaves the run's folder: today the merged model, in transformers' format."""
