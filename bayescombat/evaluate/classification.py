"""Labels predicted from features, and how often rightly; arrays only. scikit-learn is imported where it is used."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from bayescombat.evaluate.folds import Exchange
from bayescombat.evaluate.within import recoded

__all__ = ["CLASSIFIERS", "balanced_accuracy", "chance_accuracies", "predicted_labels", "predicted_numbers", "recalls"]

TREES = 100
PENALTIES = np.logspace(0, 5, 11)


def _logistic_regression(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.1, class_weight="balanced", max_iter=300, tol=1e-3)


def _random_forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(TREES, class_weight="balanced", min_samples_leaf=2, random_state=seed)


CLASSIFIERS: Mapping[str, Callable[[int], Any]] = {
    "logistic regression": _logistic_regression,
    "random forest": _random_forest,
}


def predicted_labels(
    classifier: Callable[[int], Any], train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int
) -> np.ndarray:
    """Return the labels (test,) that a classifier, trained on other scans, gives to scans.

    Parameters
    ----------
    classifier : callable
        Of a seed, returns an estimator that scikit-learn would know: one of `CLASSIFIERS` (for random forests: Breiman
        2001, doi:10.1023/A:1010933404324), or any other.
    train, test : ndarray, (train, feature), (test, feature)
        Complete.
    labels : ndarray of int, (train,)
        Codes.
    seed : int
        Of the classifier.
    """
    if len(np.unique(labels)) < 2:
        return np.full(len(test), labels[0])
    train, test = _scaled(train, test)
    with warnings.catch_warnings():
        # A classifier that has not quite converged is still one, and is judged by what it predicts.
        warnings.simplefilter("ignore")
        return np.asarray(classifier(seed).fit(train, labels).predict(test))


def predicted_numbers(train: np.ndarray, numbers: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return numbers (test,) by ridge regression (Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634).

    The penalty is chosen by leaving out each scan of the training rows in turn.
    """
    from sklearn.linear_model import RidgeCV

    train, test = _scaled(train, test)
    return np.asarray(RidgeCV(alphas=PENALTIES).fit(train, numbers).predict(test))


def _scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features in standard deviations of the training rows, in as few columns as these span."""
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 1e-9, spread, np.inf)
    train, test = (train - mean) / spread, (test - mean) / spread
    if train.shape[1] <= 2 * train.shape[0]:
        return train, test
    axes = np.linalg.qr(train.T)[0]
    return train @ axes, test @ axes


def recalls(hits: np.ndarray, labels: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of hits in every label, (label,), and how many units it has; scans of a unit share its vote."""
    labels = recoded(labels)
    pair = recoded(labels * (units.max() + 1) + units)
    first = np.unique(pair, return_index=True)[1]
    share = np.bincount(pair, hits) / np.bincount(pair)
    of_pair = labels[first]
    count = np.bincount(of_pair)
    return np.bincount(of_pair, share) / count, count


def balanced_accuracy(hits: np.ndarray, labels: np.ndarray, units: np.ndarray) -> tuple[float, float]:
    """Return balanced accuracy, the mean over labels of the share that is recognised, and its standard deviation.

    Parameters
    ----------
    hits : ndarray of bool, (obs,)
        Whether a held-out scan got its label.
    labels, units : ndarray of int, (obs,)
        Codes of its label, and of its subject.

    Notes
    -----
    The standard deviation is that of a beta posterior for every label (Brodersen et al. 2010,
    doi:10.1109/ICPR.2010.764), here with Jeffreys' prior and subjects for units. It takes the trained classifiers as
    they are, and their predictions as independent.
    """
    share, count = recalls(hits.astype(np.float64), labels, units)
    variance = stats.beta.var(share * count + 0.5, (1 - share) * count + 0.5)
    return float(share.mean()), float(np.sqrt(variance.sum()) / len(share))


def chance_accuracies(
    predicted: np.ndarray, labels: np.ndarray, exchange: Exchange, permutations: int, seed: int
) -> np.ndarray:
    """Return balanced accuracies (permutation,) if features told nothing of the labels.

    Labels of held-out scans change places, predictions stay. Given the trained classifiers that is exact; to train them
    anew on exchanged labels (Ojala and Garriga 2009, doi:10.1109/ICDM.2009.108) asks the same of their training too.
    """
    rng = np.random.default_rng(seed)
    weight = (1 / np.bincount(labels, minlength=labels.max() + 1).clip(1))[labels]
    weight /= weight.sum()
    by_label = np.zeros(labels.max() + 1)
    by_label[labels] = weight
    found = np.zeros(permutations)
    for number in range(permutations):
        other = exchange(labels, rng)
        found[number] = by_label[other[predicted == other]].sum()
    return found
