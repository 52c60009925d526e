"""How much earlier stages have pruned at least, as far as a config tells: a later one cannot ask for less."""

from dataclasses import dataclass, field

from ..foundations.nets import WEIGHTED, LayerShape, NetConfig
from ..foundations.settings import Loc
from ..methods.prune_settings import PruneAmount, PruneSettings
from ..methods.stage_settings import Pruning, prune_amounts


@dataclass(frozen=True)
class Bound:
    """So many of these layers' weights, units or filters, taken together, are pruned at least."""

    names: frozenset[str]
    count: int


@dataclass
class PruneBounds:
    """What is known of the masks between two stages: counts per layer, and of layers ranked together."""

    net: NetConfig
    shapes: list[LayerShape]
    bounds: dict[str, list[Bound]] = field(default_factory=dict)
    """By kind: weight, unit or filter."""
    is_compacted: bool = False
    """Compaction takes what is dead as well, and a later stage may ask for less than that."""

    def prune(self, settings: Pruning) -> list[tuple[Loc, str]]:
        """Place and message where a stage or a ramp asks for less; else what it prunes is noted."""
        mistakes: list[tuple[Loc, str]] = []
        groups = prune_amounts(self.net, settings)
        asked = {
            names: round(amount.sparsity * self._total(settings.kind, names))
            for names, amount, _ in groups
            if amount.sparsity is not None
        }
        for bound in [] if self.is_compacted else self.bounds.get(settings.kind, []):
            touched = [names for names, *_ in groups if set(names) & bound.names]
            together = tuple(name for names in touched for name in names)
            if not bound.names <= set(together) or not set(touched) <= set(asked):
                continue
            least = self._least(settings.kind, frozenset(together))
            if sum(asked[names] for names in touched) < least:
                said = {loc: amount.sparsity for names, amount, loc in groups if names in touched}
                place = ("sparsity",) if ("sparsity",) in said else ("layers",)
                place = next(iter(said)) if len(said) == 1 else place
                share = _share(least, self._total(settings.kind, together))
                found = said.get(place, sum(asked[n] for n in touched) / self._total(settings.kind, together))
                which = "" if len(together) == 1 else f" of {', '.join(together)} together"
                text = f"expected at least {share}, which an earlier stage pruned{which}, found {found:g}"
                mistakes.append((place, text))
        if not mistakes:
            for names, amount, _ in groups:
                self._note(settings, names, amount, asked.get(names))
        return list(dict.fromkeys(mistakes))

    def _note(
        self, settings: Pruning, names: tuple[str, ...], amount: PruneAmount, count: int | None
    ) -> None:
        """What is pruned at least after a group of layers has been."""
        least = self._least(settings.kind, frozenset(names))
        if count is None:
            count = least + round((amount.rate or 0.0) * (self._total(settings.kind, names) - least))
        self._add(settings.kind, names, max(count, least))
        if settings.kind != "weight":
            if isinstance(settings, PruneSettings) and settings.criterion == "shuffle":
                # A unit that comes back brings all its weights.
                kept = [bound for bound in self.bounds.get("weight", []) if not bound.names & set(names)]
                self.bounds["weight"] = kept
            # A pruned unit takes its weights with it; those with the fewest are the least that may be gone.
            weights = 0
            for size, units in sorted(self._size(name) for name in names):
                gone = min(units, count)
                weights, count = weights + gone * size, count - gone
            self._add("weight", names, weights)

    def _add(self, kind: str, names: tuple[str, ...], count: int) -> None:
        """Keep what is known of these layers; one that says less goes."""
        found = Bound(frozenset(names), count)
        others = [bound for bound in self.bounds.get(kind, []) if bound.names != found.names]
        same = [bound.count for bound in self.bounds.get(kind, []) if bound.names == found.names]
        self.bounds[kind] = [*others, Bound(found.names, max([count, *same]))]

    def _least(self, kind: str, names: frozenset[str]) -> int:
        """How many are pruned at least among these layers: the best of one bound with single layers."""
        within = [bound for bound in self.bounds.get(kind, []) if bound.names <= names]
        single = dict.fromkeys(names, 0)
        single |= {next(iter(bound.names)): bound.count for bound in within if len(bound.names) == 1}
        totals = [sum(single.values())]
        for bound in within:
            totals.append(bound.count + sum(single[name] for name in names - bound.names))
        return max(totals)

    def _total(self, kind: str, names: tuple[str, ...]) -> int:
        """Weights, units or filters of these layers in the network that the config describes."""
        sizes = [self._size(name) for name in names]
        return sum(size * units if kind == "weight" else units for size, units in sizes)

    def _size(self, name: str) -> tuple[int, int]:
        """Weights of one unit or filter of a layer, and how many there are."""
        shape = next(shape for shape in self.shapes if shape.name == name and shape.type in WEIGHTED)
        units = shape.output_shape[0]
        return (shape.params - units) // units, units


def _share(count: int, total: int) -> str:
    """The shortest share of `total` that comes to so many."""
    for digits in range(1, 17):
        text = f"{count / total:.{digits}g}"
        if round(float(text) * total) == count:
            return text
    return str(count / total)
