//! What kube-proxy's metrics want to know of a pass: which changes came, and since when those of endpoints were under way.

use std::time::SystemTime;

use crate::{
    model::{Change, EndpointSlice, Kind, Object},
    telemetry::kube_proxy::{Changes, KubeProxyMetrics},
};

/// A change of endpoints that is not yet in force: its family, and when it happened.
type Trigger = (bool, SystemTime);

/// Changes that wait to be in force.
#[derive(Debug)]
pub(super) struct Passes {
    began: SystemTime,
    triggers: Vec<Trigger>,
}

impl Passes {
    /// What was changed before `began` waited for the agent, not for the network.
    pub(super) const fn new(began: SystemTime) -> Self {
        Self {
            began,
            triggers: Vec::new(),
        }
    }

    /// Changes came in.
    pub(super) fn take(&mut self, changes: &[Change]) -> Changes {
        let began = self.began;
        let slices = changes.iter().filter_map(slice);
        let triggers = slices.filter_map(|slice| Some((slice.is_v6(), slice.triggered?)));
        self.triggers.extend(triggers.filter(|(_, at)| *at > began));
        count(changes)
    }

    /// They are in force.
    pub(super) fn done(&mut self, metrics: &KubeProxyMetrics, now: SystemTime) {
        for (v6, at) in self.triggers.drain(..) {
            metrics.network_programmed(v6, now.duration_since(at).unwrap_or_default());
        }
    }
}

fn slice(change: &Change) -> Option<&EndpointSlice> {
    match change {
        Change::Put(Object::EndpointSlice(slice)) => Some(slice),
        Change::Put(_)
        | Change::Remove(_)
        | Change::Synced(_)
        | Change::Incomplete(_)
        | Change::NodeAddresses(_) => None,
    }
}

fn count(changes: &[Change]) -> Changes {
    let of = |kind: Kind| {
        let same = changes.iter().filter(|change| match change {
            Change::Put(object) => object.id().kind == kind,
            Change::Remove(id) => id.kind == kind,
            Change::Synced(_) | Change::Incomplete(_) | Change::NodeAddresses(_) => false,
        });
        u64::try_from(same.count()).unwrap_or(u64::MAX)
    };
    Changes {
        slices: of(Kind::EndpointSlice),
        services: of(Kind::Service),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{ObjectId, ObjectName};

    fn slice(triggered: Option<SystemTime>) -> Change {
        Change::Put(Object::EndpointSlice(EndpointSlice {
            name: ObjectName::new("a", "web-1"),
            service: None,
            ports: Vec::new(),
            endpoints: Vec::new(),
            triggered,
        }))
    }

    #[test]
    fn only_what_changed_since_the_start_is_timed() {
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let mut passes = Passes::new(began);
        let gone = Change::Remove(ObjectId {
            kind: Kind::Service,
            name: ObjectName::new("a", "web"),
        });
        let changes = passes.take(&[
            slice(None),
            slice(Some(began - Duration::from_secs(1))),
            slice(Some(began + Duration::from_secs(1))),
            gone,
            Change::Synced(Kind::Service),
        ]);
        assert_eq!((changes.slices, changes.services), (3, 1));
        assert_eq!(passes.triggers, [(false, began + Duration::from_secs(1))]);
    }
}
