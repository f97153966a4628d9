"""Excess of a distance over its floor, without the imports of the scores."""


def excess(distance: float, floor: float, other_class: float) -> float | None:
    """Compute ``(distance - floor) / (other_class - floor)``.

    0 is as near as real images of other patients, 1 as far as real images of the other class. All
    three distances are at the same number of images.

    Args:
        distance: the distance to rate.
        floor: the distance of real images to those of other patients.
        other_class: the distance of the real images of the two classes.

    Returns:
        None if the other class lies no farther away than the floor.
    """
    if other_class <= floor:
        return None
    return (distance - floor) / (other_class - floor)
