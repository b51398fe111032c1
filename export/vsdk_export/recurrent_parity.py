"""Parity of a recurrent graph: of each step on its own, and of the whole loop in which errors could add up.

Both run beside the PyTorch reference over all samples. A step on its own starts from the reference's state, so it shows
the error of the graph; in the closed loop the graph's state is its own, as in use.
"""

from __future__ import annotations

import vsdk_runtimes
from vsdk_runtimes import Component, Precision
from vsdk_runtimes.manifest import Deviation

from .network import Network
from .parity import check_finite, deviation, judged, worse

CLOSED_LOOP = " (closed loop)"
"""Stands behind an output's name where its deviation in the closed loop is meant."""


def measure_recurrent(component: Component, precision: Precision, network: Network) -> dict[str, Deviation]:
    """Run a recurrent component over all samples and say how far each output is from the reference.

    Returns:
        By output the worst of all steps from the reference's state; by output and `CLOSED_LOOP` that of the loop.

    Raises:
        ParityError: An output is past the limit or not finite; the message names the worst one.
    """
    worst: dict[str, Deviation] = {}
    with vsdk_runtimes.load(component, precision=precision, device="cpu", engine="onnxruntime") as session:
        state = session.new_state()
        for number, (inputs, expected) in enumerate(network.steps()):
            given = {name: inputs[name] for name in network.samples}
            alone = session.run(inputs)
            looped = session.step(given, state, outputs=network.outputs)
            for suffix, found in (("", alone), (CLOSED_LOOP, looped)):
                check_finite(network.name, precision, found, f"in step {number}")
                for name in network.outputs:
                    measured = deviation([found[name]], [expected[name]])
                    worst[name + suffix] = worse(measured, worst.get(name + suffix))
    return judged(network.name, precision, dict(sorted(worst.items(), key=lambda item: item[0].endswith(CLOSED_LOOP))))
