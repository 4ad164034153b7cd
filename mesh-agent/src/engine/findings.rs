//! What users should know of their Services and Pods: kept up to date as they are planned and written, so that asking is
//! cheap however many there are.

use std::collections::BTreeMap;

use crate::{
    desired::{Finding, Weight},
    model::ObjectId,
    plan::PlanError,
};

/// The findings, and how often they have changed.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What the objects themselves are to blame for.
    objects: BTreeMap<ObjectId, Vec<Finding>>,
    /// What does not fit, and why.
    unfit: BTreeMap<ObjectId, PlanError>,
    /// Whose last write failed, and how.
    failing: BTreeMap<ObjectId, String>,
    /// Whose health check cannot be answered.
    unanswered: BTreeMap<ObjectId, Finding>,
    revision: u64,
}

impl Findings {
    /// What planning has shown.
    pub(super) fn planned(&mut self, owner: &ObjectId, findings: Vec<Finding>) {
        let findings = Some(findings).filter(|findings| !findings.is_empty());
        self.revision += replace(&mut self.objects, owner, findings);
    }

    /// Whether it fits.
    pub(super) fn fitted(&mut self, owner: &ObjectId, error: Option<PlanError>) {
        self.revision += replace(&mut self.unfit, owner, error);
    }

    /// Whether it could be written.
    pub(super) fn written(&mut self, owner: &ObjectId, error: Option<String>) {
        self.revision += replace(&mut self.failing, owner, error);
    }

    /// Health checks that cannot be answered, all of them.
    pub(super) fn set_unanswered(&mut self, unanswered: BTreeMap<ObjectId, Finding>) {
        self.revision += u64::from(self.unanswered != unanswered);
        self.unanswered = unanswered;
    }

    /// Whether somebody's last write failed.
    pub(super) fn has_failing(&self) -> bool {
        !self.failing.is_empty()
    }

    /// What does not fit.
    pub(super) fn unfit(&self) -> impl ExactSizeIterator<Item = &ObjectId> {
        self.unfit.keys()
    }

    /// Grows with each change.
    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    /// All, by owner.
    pub(super) fn all(&self) -> Vec<Finding> {
        let mut owners: Vec<&ObjectId> = self
            .objects
            .keys()
            .chain(self.unfit.keys())
            .chain(self.failing.keys())
            .chain(self.unanswered.keys())
            .collect();
        owners.sort();
        owners.dedup();
        owners
            .into_iter()
            .flat_map(|owner| self.of(owner))
            .collect()
    }

    /// Those of one owner.
    pub(super) fn of(&self, owner: &ObjectId) -> Vec<Finding> {
        let mut findings = self.objects.get(owner).cloned().unwrap_or_default();
        findings.extend(self.unfit.get(owner).map(unfit));
        findings.extend(self.unanswered.get(owner).cloned());
        findings.extend(self.failing.get(owner).map(|error| Finding {
            object: owner.clone(),
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
    map: &mut BTreeMap<ObjectId, T>,
    owner: &ObjectId,
    value: Option<T>,
) -> u64 {
    if map.get(owner) == value.as_ref() {
        return 0;
    }
    match value {
        Some(value) => map.insert(owner.clone(), value),
        None => map.remove(owner),
    };
    1
}

fn unfit(error: &PlanError) -> Finding {
    let PlanError::Full {
        owner,
        map,
        capacity,
        flag,
    } = error;
    Finding {
        object: owner.clone(),
        field: String::new(),
        reason: format!("does not fit into the map `{map}`, which holds {capacity} entries"),
        fix: format!("raise {flag} and restart, or remove Services"),
        weight: Weight::Problem,
    }
}
