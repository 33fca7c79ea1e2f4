"""TrOCR (Li et al. 2021): network, tokenizer, pretrained folders and adapters."""
