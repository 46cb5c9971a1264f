"""Causal language models: adapter, safe loading (directories, LoRA, GGUF), chat templates."""
