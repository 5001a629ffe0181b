"""How values of a metric are printed: errors, which are fractions, in percent; losses plainly."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """What a value is multiplied by, and what then stands beside it."""

    scale: float
    sign: str
    """After a number and in a header: a space and the sign, or nothing."""
    axis: str
    """After the name of a metric on an axis."""
    regret: str
    """What an axis of regret adds, before the kind of its scale."""
    column: str
    """The end of a CSV column's name."""
    regret_column: str
    floor: float
    """The lowest regret that is drawn, scaled: a log axis has no zero."""
    coarse_format: str
    fine_format: str

    def coarse(self, value: float) -> str:
        """For means and spreads; empty where the value is not known."""
        return self._shown(value, self.coarse_format)

    def fine(self, value: float) -> str:
        """For intervals and regret, which are smaller."""
        return self._shown(value, self.fine_format)

    def exact(self, value: float) -> str:
        """For other programs to read."""
        return self._shown(value, ".6f" if self.scale == 100 else ".10g")

    def _shown(self, value: float, form: str) -> str:
        return "" if value != value else format(self.scale * value, form).removesuffix(".")


PERCENT = Unit(100, " %", " (%)", "percentage points, ", "percent", "points", 1e-3, ".2f", ".3f")
PLAIN = Unit(1, "", "", "", "plain", "plain", 1e-4, "#.4g", "#.4g")


def unit(metric: str) -> Unit:
    """A loss has no scale that the benchmarks share; every other metric is a fraction."""
    return PLAIN if metric.endswith("_loss") else PERCENT
