"""`reference/mllm`: a LLaVA on the reference base that answers questions about scenes and reads drawn words."""
