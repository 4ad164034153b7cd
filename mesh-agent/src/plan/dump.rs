//! Where the kernel differs from what the agent believes it holds. Only somebody else's hand, or a defect, makes it so.

use std::fmt::Debug;

use super::{Applied, TableDump, kernel::Kernel};

/// One entry that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The map.
    pub map: &'static str,
    /// The entry's key or index.
    pub entry: String,
    /// What the kernel holds.
    pub kernel: String,
    /// What the agent has written.
    pub expected: String,
}

/// More differences than these say nothing more.
const MOST: usize = 64;

impl Applied {
    /// The first differences, map by map; empty if there are none.
    #[must_use]
    pub fn differences(&self, dump: &TableDump) -> Vec<Difference> {
        let kernel = Kernel::from_dump(dump);
        let own = &self.kernel;
        let mut found = frontends(&kernel, own);
        found.extend(array("services", kernel.services(), own.services()));
        found.extend(array("sets", kernel.sets(), own.sets()));
        found.extend(array("slots", kernel.slots(), own.slots()));
        found.extend(array("backends", kernel.backends(), own.backends()));
        found.truncate(MOST);
        found
    }
}

fn frontends(kernel: &Kernel, own: &Kernel) -> Vec<Difference> {
    let (kernel, own) = (kernel.frontends(), own.frontends());
    let missing = own.keys().filter(|key| !kernel.contains_key(key));
    kernel
        .keys()
        .chain(missing)
        .filter(|key| kernel.get(key) != own.get(key))
        .take(MOST)
        .map(|key| difference("frontends", key, kernel.get(key), own.get(key)))
        .collect()
}

/// Beyond its end an array is zero; both end with what is not.
fn array<T: Debug + PartialEq>(map: &'static str, kernel: &[T], own: &[T]) -> Vec<Difference> {
    (0..kernel.len().max(own.len()))
        .filter(|index| kernel.get(*index) != own.get(*index))
        .take(MOST)
        .map(|index| difference(map, &index, kernel.get(index), own.get(index)))
        .collect()
}

fn difference<T: Debug>(
    map: &'static str,
    entry: &dyn Debug,
    kernel: Option<&T>,
    own: Option<&T>,
) -> Difference {
    let text = |value: Option<&T>| value.map_or("nothing".to_owned(), |value| format!("{value:?}"));
    Difference {
        map,
        entry: format!("{entry:?}"),
        kernel: text(kernel),
        expected: text(own),
    }
}
