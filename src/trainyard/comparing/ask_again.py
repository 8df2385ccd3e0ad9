"""What models say of some test samples, asked anew: no file holds masks and forecasts, so the weights are run once more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainyard.comparing.contender import Contender
from trainyard.data.packed import Split
from trainyard.errors import TrainyardError


def answers(contender: Contender, test: Split, rows: NDArray[np.int64]) -> tuple[NDArray[Any] | None, str]:
    """Return masks (n, H, W) uint8 or forecasts (n, horizon, D), standardised, of some samples, or None and the reason.

    Args:
        contender: whose weights are asked.
        test: the samples it was tested on.
        rows: which of them.
    """
    if contender.model_dir is None:
        return None, "its weights are not at hand"
    from trainyard.models.saved import load_model

    try:
        saved = load_model(contender.model_dir)
    except TrainyardError as error:
        # Of a version whose networks were built otherwise, for one.
        return None, str(error)
    if saved.fingerprint != contender.fingerprint:
        return None, f"its weights are those of {saved.fingerprint}, its results those of {contender.fingerprint}"
    if test.kind == "forecasting":
        from trainyard.data.batches import gather
        from trainyard.evaluation.forecasts import network_forecast

        return network_forecast(saved.network)(gather(test, rows).inputs[0].numpy()), ""
    from trainyard.evaluation.predictions import predict
    from trainyard.evaluation.tiles import segmenter

    some = Split(test.kind, "test", {name: np.asarray(test.arrays[name][rows]) for name in ("images", "masks")})
    network, batch_size = segmenter(saved.network, saved.recipe.model, saved.recipe.evaluate)
    return predict(network, some, batch_size).classes, ""
