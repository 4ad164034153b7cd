//! Where this node is, as far as that decides which endpoints are near.

use crate::{model::ObjectName, store::Store};

/// This node and its zone.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// Its name.
    pub node: &'a str,
    /// Its label topology.kubernetes.io/zone; None without, or while the Node is not known.
    pub zone: Option<&'a str>,
}

impl<'a> Here<'a> {
    /// As the store knows it.
    #[must_use]
    pub fn of(store: &'a Store) -> Self {
        let node = store.own_node();
        Self {
            node,
            zone: zone(store, node),
        }
    }
}

/// The zone of a node; an empty label is none.
pub(super) fn zone<'a>(store: &'a Store, node: &str) -> Option<&'a str> {
    let node = store.node(&ObjectName::new("", node))?;
    node.zone.as_deref().filter(|zone| !zone.is_empty())
}
