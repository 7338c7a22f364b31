"""Prompts that a model refuses needlessly: grown token by token or rewritten, checked for harm, written as a suite."""
