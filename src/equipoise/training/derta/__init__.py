"""DeRTa, decoupled refusal training (Yuan et al. 2024, arXiv:2407.09121): a model that refuses at any position.

Ordinary safety tuning puts refusals at the first token, so a reply that has begun to comply goes on. DeRTa adds

- **a harmful prefix**: the refusal is learned after a random part of a harmful answer, `-log P(r | q, h_<k)`;
- **refusal transition at every position** (RTO): after every token of a harmful answer the next token should begin a
  refusal, `-log sum_{v in R} P(v | q, h_<t)`, where `R` are the tokens that refusals of this tokenizer begin with.

No token of a harmful answer is ever a target. What this costs is refused harmless prompts; harmless rows that look
harmful, and the same positions of harmless answers with the opposite sign, are part of the training for that reason.
"""
