"""Lead score: features, the learned model, the rules that stand in for it, training and evaluation.

Serving needs `model`, `features` and `rules` only; they import neither scikit-learn nor scipy.
"""
