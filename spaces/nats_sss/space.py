"""The size space of NATS-Bench (Dong et al., TPAMI 2021, section 3.1): channels of five layers."""

from bench.space import Architecture, Space

CHANNELS = (8, 16, 24, 32, 40, 48, 56, 64)
LAYERS = ("first layer", "stage 1", "reduction 1", "stage 2", "reduction 2")
EXAMPLE = "64:64:64:64:64"


class NATSSize(Space):
    """Gene `i` chooses the channels of layer `i`, as an index into `CHANNELS`; the cell is fixed.

    The published mutation draws one of eight channel counts and so returns the parent once in
    eight times (exps/NATS-algos/regularized_ea.py, D-X-Y/AutoDL-Projects@46b92e3); here a
    mutant always differs.
    """

    name = "nats_sss"
    choices = (len(CHANNELS),) * len(LAYERS)

    def to_string(self, arch: Architecture) -> str:
        return ":".join(str(CHANNELS[value]) for value in arch)

    def from_string(self, text: str) -> Architecture:
        known = {str(channels): value for value, channels in enumerate(CHANNELS)}
        arch = tuple(known.get(word, -1) for word in text.split(":"))
        if not self.contains(arch):
            raise ValueError(
                f"{text!r} is no network of {self.name}: five of {', '.join(known)}, "
                f"such as {EXAMPLE}"
            )
        return arch

    def labels(self) -> list[tuple[str, list[str]]]:
        return [(layer, [str(channels) for channels in CHANNELS]) for layer in LAYERS]
