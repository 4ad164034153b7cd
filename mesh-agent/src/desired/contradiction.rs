//! EndpointSlices that say different things of one endpoint. It is served as the best of them says, and told to who
//! wrote them, since one of the two is out of date. In: what differs, as endpoints are gathered. Out: a finding a slice.

use std::collections::BTreeMap;

use mesh_common::Address;

use super::{Finding, Weight};
use crate::model::{Kind, ObjectId, ObjectName};

/// By slice, the endpoints of which one before says something else: place in the slice, and address.
#[derive(Debug, Default)]
pub(super) struct Contradictions(BTreeMap<ObjectName, BTreeMap<usize, Address>>);

impl Contradictions {
    /// Each port of a Service comes upon the same ones; they count once.
    pub(super) fn add(&mut self, slice: &ObjectName, index: usize, address: Address) {
        let slice = self.0.entry(slice.clone()).or_default();
        slice.insert(index, address);
    }

    /// One for each slice, however many endpoints it is about.
    pub(super) fn findings(self) -> impl Iterator<Item = Finding> {
        self.0.into_iter().filter_map(|(name, endpoints)| {
            let (index, address) = endpoints.first_key_value()?;
            let more = match endpoints.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            Some(Finding {
                object: ObjectId {
                    kind: Kind::EndpointSlice,
                    name,
                },
                field: format!("endpoints[{index}].conditions"),
                reason: format!(
                    "{address}{more} has other conditions elsewhere in the Service's EndpointSlices; the best of them count"
                ),
                fix: "take it out of one of them, or let both say the same".to_owned(),
                weight: Weight::Note,
            })
        })
    }
}
