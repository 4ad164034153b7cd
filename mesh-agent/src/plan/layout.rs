//! Where a set's backends stand after a change, with as few stores as can be.

use mesh_common::BackendId;

/// How many visible slots may change one by one. More than that is seen as a whole: a new region is filled and one
/// store switches to it.
pub(super) const MAX_VISIBLE_STORES: usize = 2;

/// Stores that turn the visible slots, of which the kept ones are Some, into a set of the kept and the incoming.
/// Index is from the region's base. Backends beyond the new end move into holes.
pub(super) fn in_place(
    visible: &[Option<BackendId>],
    incoming: &[BackendId],
) -> Vec<(u32, BackendId)> {
    let count = visible.iter().flatten().count() + incoming.len();
    let beyond = visible.iter().skip(count).flatten();
    let holes = (0..count).filter(|index| visible.get(*index).is_none_or(Option::is_none));
    numbered(holes.zip(incoming.iter().chain(beyond).copied()))
}

/// Stores that fill a new region.
pub(super) fn anew(visible: &[Option<BackendId>], incoming: &[BackendId]) -> Vec<(u32, BackendId)> {
    let ids = visible.iter().flatten().chain(incoming).copied();
    numbered(ids.enumerate())
}

fn numbered(stores: impl Iterator<Item = (usize, BackendId)>) -> Vec<(u32, BackendId)> {
    stores
        .filter_map(|(index, id)| Some((u32::try_from(index).ok()?, id)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_is_one_store() {
        assert_eq!(in_place(&[Some(1), Some(2)], &[3]), [(2, 3)]);
    }

    #[test]
    fn the_last_moves_into_the_hole() {
        assert_eq!(in_place(&[Some(1), None, Some(3)], &[]), [(1, 3)]);
        assert_eq!(in_place(&[Some(1), Some(2), None], &[]), []);
    }

    #[test]
    fn a_replacement_takes_the_hole() {
        assert_eq!(in_place(&[Some(1), None, Some(3)], &[4]), [(1, 4)]);
    }

    #[test]
    fn several_at_once() {
        let visible = [None, Some(2), None, None, Some(5)];
        assert_eq!(in_place(&visible, &[9]), [(0, 9), (2, 5)]);
        assert_eq!(anew(&visible, &[9]), [(0, 2), (1, 5), (2, 9)]);
    }
}
