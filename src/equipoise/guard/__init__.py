"""The guard: harm detector, detoxifier and the loop around them (MLLM-Protector, arXiv:2401.02906), and a gateway."""
