//! What users should know of their Services: kept up to date as Services are planned and written, so that asking is
//! cheap however many there are.

use std::collections::BTreeMap;

use super::service_id;
use crate::{
    desired::{Finding, Weight},
    model::ObjectName,
    plan::PlanError,
};

/// The findings, and how often they have changed.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What the objects themselves are to blame for.
    objects: BTreeMap<ObjectName, Vec<Finding>>,
    /// Services that do not fit, and why.
    unfit: BTreeMap<ObjectName, PlanError>,
    /// Services whose last write failed, and how.
    failing: BTreeMap<ObjectName, String>,
    revision: u64,
}

impl Findings {
    /// What planning a Service has shown.
    pub(super) fn planned(&mut self, service: &ObjectName, findings: Vec<Finding>) {
        let findings = Some(findings).filter(|findings| !findings.is_empty());
        self.revision += replace(&mut self.objects, service, findings);
    }

    /// Whether it fits.
    pub(super) fn fitted(&mut self, service: &ObjectName, error: Option<PlanError>) {
        self.revision += replace(&mut self.unfit, service, error);
    }

    /// Whether it could be written.
    pub(super) fn written(&mut self, service: &ObjectName, error: Option<String>) {
        self.revision += replace(&mut self.failing, service, error);
    }

    /// Whether the last write of a Service failed.
    pub(super) fn has_failing(&self) -> bool {
        !self.failing.is_empty()
    }

    /// Services that do not fit.
    pub(super) fn unfit(&self) -> impl ExactSizeIterator<Item = &ObjectName> {
        self.unfit.keys()
    }

    /// Grows with each change.
    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    /// All, by Service.
    pub(super) fn all(&self) -> Vec<Finding> {
        let mut names: Vec<&ObjectName> = self
            .objects
            .keys()
            .chain(self.unfit.keys())
            .chain(self.failing.keys())
            .collect();
        names.sort();
        names.dedup();
        names.into_iter().flat_map(|name| self.of(name)).collect()
    }

    /// Those of one Service.
    pub(super) fn of(&self, name: &ObjectName) -> Vec<Finding> {
        let mut findings = self.objects.get(name).cloned().unwrap_or_default();
        findings.extend(self.unfit.get(name).map(unfit));
        findings.extend(self.failing.get(name).map(|error| Finding {
            object: service_id(name),
            field: String::new(),
            reason: error.clone(),
            fix: "if it lasts, look at the agent's log and at `mesh-agent check`".to_owned(),
            weight: Weight::Problem,
        }));
        findings
    }
}

/// Sets or removes an entry; 1 if that changes anything, else 0.
fn replace<T: PartialEq>(
    map: &mut BTreeMap<ObjectName, T>,
    name: &ObjectName,
    value: Option<T>,
) -> u64 {
    if map.get(name) == value.as_ref() {
        return 0;
    }
    match value {
        Some(value) => map.insert(name.clone(), value),
        None => map.remove(name),
    };
    1
}

fn unfit(error: &PlanError) -> Finding {
    let PlanError::Full {
        service,
        map,
        capacity,
        flag,
    } = error;
    Finding {
        object: service_id(service),
        field: String::new(),
        reason: format!("does not fit into the map `{map}`, which holds {capacity} entries"),
        fix: format!("raise {flag} and restart, or remove Services"),
        weight: Weight::Problem,
    }
}
