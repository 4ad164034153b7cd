//! EndpointSlices that are served but can hardly be meant as they are, told to who wrote them. In: what is odd, as endpoints
//! are gathered. Out: a finding for each slice and oddity.

use std::collections::BTreeMap;

use mesh_common::Address;

use super::{Finding, Weight};
use crate::model::{Kind, ObjectId, ObjectName};

/// By slice, endpoints: place in the slice, and address. Each port of a Service comes upon the same ones; they count once.
type Places = BTreeMap<ObjectName, BTreeMap<usize, Address>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Of which a slice before says something else.
    contradicting: Places,
    /// On no node.
    nodeless: Places,
    /// Whether it matters on which node an endpoint is.
    is_local: bool,
}

impl Suspects {
    /// Of a Service one of whose traffic policies is Local, or not.
    pub(super) fn of(is_local: bool) -> Self {
        Self {
            is_local,
            ..Self::default()
        }
    }

    /// Another slice has other conditions for an endpoint. One of the two is out of date.
    pub(super) fn contradicts(&mut self, slice: &ObjectName, index: usize, address: Address) {
        add(&mut self.contradicting, slice, index, address);
    }

    /// An endpoint has no nodeName.
    pub(super) fn lacks_node(&mut self, slice: &ObjectName, index: usize, address: Address) {
        if self.is_local {
            add(&mut self.nodeless, slice, index, address);
        }
    }

    /// One for each slice and oddity, however many endpoints it is about.
    pub(super) fn findings(self) -> Vec<Finding> {
        let mut findings = told(
            self.contradicting,
            "conditions",
            "has other conditions elsewhere in the Service's EndpointSlices; the best of them count",
            "take it out of one of them, or let both say the same",
        );
        findings.extend(told(
            self.nodeless,
            "nodeName",
            "is on no node, so a Service whose traffic policy is Local is not led to it from anywhere",
            "give the endpoint's nodeName, or the Service the policy Cluster",
        ));
        findings
    }
}

fn add(places: &mut Places, slice: &ObjectName, index: usize, address: Address) {
    let slice = places.entry(slice.clone()).or_default();
    slice.insert(index, address);
}

fn told(places: Places, field: &str, what: &str, fix: &str) -> Vec<Finding> {
    let finding = |(name, endpoints): (ObjectName, BTreeMap<usize, Address>)| {
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
            field: format!("endpoints[{index}].{field}"),
            reason: format!("{address}{more} {what}"),
            fix: fix.to_owned(),
            weight: Weight::Note,
        })
    };
    places.into_iter().filter_map(finding).collect()
}
