"""What leaves the house: adapters, merged models and GGUF files, each compared before it goes."""
