"""Models that can be asked, and open models whose replies can be differentiated in the pixels."""
