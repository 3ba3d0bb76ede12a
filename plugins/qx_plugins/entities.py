"""Entities in sequences of tokens, whose classes are named ``O``, ``B-PLACE``, ``I-PLACE`` and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from qx_plugins.class_answers import ClassAnswers


@frozen
class Tags:
    """What the classes of tokens say of entities, each ``[classes]``."""

    #: Type of the entity as a number from 0; -1 where the token belongs to none.
    types: tuple[int, ...]
    #: Whether the token begins an entity whatever stands before it.
    begins: tuple[bool, ...]

    @classmethod
    def of(cls, classes: Sequence[str]) -> Tags | None:
        """Read the names of classes; None where they do not name entities in this way."""
        entities = [name[2:] for name in classes if name[:2] in ("B-", "I-") and name[2:]]
        if not entities or any(name != "O" and name[:2] not in ("B-", "I-") for name in classes):
            return None
        numbers = {name: number for number, name in enumerate(dict.fromkeys(entities))}
        return cls(
            types=tuple(-1 if name == "O" else numbers.get(name[2:], -1) for name in classes),
            begins=tuple(name.startswith("B-") for name in classes),
        )


@frozen(eq=False)
class Entities:
    """Where entities begin in a row of tokens, with type and last token of each; ``[tokens]`` each."""

    begins: np.ndarray
    types: np.ndarray
    #: Position of the last token of the entity that begins here; 0 where none begins.
    lasts: np.ndarray


def counts_of_entities(answers: ClassAnswers, tags: Tags) -> np.ndarray:
    """Count for each item the entities that are right, answered and labelled, ``[n, 3]``.

    An entity is right where its type, its first and its last token are. Tokens whose label is ignored are
    left out, as if the others stood side by side. An ``I-`` after a token of another type begins an entity,
    as in conlleval (Sang & De Meulder, 2003), whose rules seqeval has too.
    """
    import numpy as np

    items = np.nonzero(answers.counted)[0]
    starts_item = np.diff(items, prepend=-1) != 0
    ours = _entities(answers.answers[answers.counted], starts_item, tags)
    theirs = _entities(answers.labels[answers.counted], starts_item, tags)
    hits = ours.begins & theirs.begins & (ours.types == theirs.types) & (ours.lasts == theirs.lasts)
    count = len(answers.labels)
    columns = [np.bincount(items[kind], minlength=count) for kind in (hits, ours.begins, theirs.begins)]
    return np.stack(columns, axis=1)


def _entities(classes: np.ndarray, starts_item: np.ndarray, tags: Tags) -> Entities:
    """Return the entities of tokens ``[tokens]``, of which some are the first of their item."""
    import numpy as np

    types, begins = np.asarray(tags.types)[classes], np.asarray(tags.begins)[classes]
    before = np.concatenate([[-1], types[:-1]])
    before = np.where(starts_item, -1, before)
    is_first = (types >= 0) & (begins | (types != before))
    # A token ends its entity where the next one is outside, begins another, or belongs to the next item.
    goes_on = np.concatenate([(types[1:] >= 0) & ~is_first[1:] & ~starts_item[1:], [False]])
    lasts = np.zeros(len(classes), dtype=np.int64)
    lasts[is_first] = np.flatnonzero((types >= 0) & ~goes_on[: len(types)])
    return Entities(is_first, types, lasts)
