//! Where the kernel differs from what the agent believes it holds. Only somebody else's hand, or a defect, makes it so.

use std::fmt::Debug;

use mesh_common::SetWord;

use super::{
    Applied, TableDump,
    kernel::{Kernel, NO_BACKEND, NO_SERVICE},
};

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
        found.extend(ranges(&kernel, own));
        let services = [kernel.services(), own.services()];
        found.extend(array("services", services, NO_SERVICE));
        found.extend(array("sets", [kernel.sets(), own.sets()], SetWord::EMPTY));
        found.extend(array("slots", [kernel.slots(), own.slots()], 0));
        let backends = [kernel.backends(), own.backends()];
        found.extend(array("backends", backends, NO_BACKEND));
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

fn ranges(kernel: &Kernel, own: &Kernel) -> Vec<Difference> {
    let there = |ranges: &Kernel, key| ranges.ranges().contains(key).then_some(true);
    kernel
        .ranges()
        .symmetric_difference(own.ranges())
        .take(MOST)
        .map(|key| {
            let [kernel, own] = [there(kernel, key), there(own, key)];
            difference("source_ranges", key, kernel.as_ref(), own.as_ref())
        })
        .collect()
}

/// Beyond its end an array is zero; the kernel's and the agent's end with what is not.
fn array<T: Debug + PartialEq>(
    map: &'static str,
    [kernel, own]: [&[T]; 2],
    zero: T,
) -> Vec<Difference> {
    let end = kernel.len().max(own.len());
    let kernel = |index: usize| kernel.get(index).unwrap_or(&zero);
    let own = |index: usize| own.get(index).unwrap_or(&zero);
    (0..end)
        .filter(|index| kernel(*index) != own(*index))
        .take(MOST)
        .map(|index| difference(map, &index, Some(kernel(index)), Some(own(index))))
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

#[cfg(test)]
mod tests {
    use mesh_common::ServiceWord;

    use super::*;
    use crate::plan::{Capacities, Time};

    /// An entry beyond what the agent uses is one difference; what lies between is zero on both sides.
    #[test]
    fn a_lone_entry_is_one_difference() {
        let capacities = Capacities {
            frontends: 16,
            services: 16,
            sets: 16,
            slots: 16,
            backends: 16,
            ranges: 16,
        };
        let clean = Applied::restore(&TableDump::default(), capacities, Time::default());
        let mut services = vec![ServiceWord::from_word(0); 10];
        services.push(ServiceWord::new(3600));
        let dump = TableDump {
            services,
            ..TableDump::default()
        };
        let found = clean.differences(&dump);
        let entries: Vec<_> = found.iter().map(|it| (it.map, it.entry.as_str())).collect();
        assert_eq!(entries, [("services", "10")]);
    }
}
