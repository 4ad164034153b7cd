//! Which Services and Pods ask for a frontend, and who gets it: the older one, then the first by kind and name.

use std::{collections::BTreeSet, sync::Arc};

use mesh_common::FrontendKey;

use crate::model::{Kind, ObjectId, ObjectName};

/// One owner's wish for one frontend. The order makes the first claim of a key the winner's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    key: FrontendKey,
    /// Without a creationTimestamp an object counts as youngest.
    created: i64,
    owner: ObjectId,
}

/// Every claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(BTreeSet<Claim>);

impl Claim {
    pub(super) fn new(key: FrontendKey, created: Option<i64>, owner: &ObjectId) -> Self {
        Self {
            key,
            created: created.unwrap_or(i64::MAX),
            owner: owner.clone(),
        }
    }
}

impl Claims {
    pub(super) fn winner(&self, key: &FrontendKey) -> Option<&ObjectId> {
        let first = Claim {
            key: *key,
            created: i64::MIN,
            owner: ObjectId {
                kind: Kind::ALL[0],
                name: ObjectName {
                    namespace: Arc::default(),
                    name: Arc::default(),
                },
            },
        };
        self.0
            .range(first..)
            .next()
            .filter(|claim| claim.key == *key)
            .map(|claim| &claim.owner)
    }

    /// An object asks for others now. Those that win or lose a frontend by that are added to `touched`.
    pub(super) fn replace(
        &mut self,
        old: &BTreeSet<Claim>,
        new: &BTreeSet<Claim>,
        touched: &mut BTreeSet<ObjectId>,
    ) {
        for claim in old.difference(new) {
            self.0.remove(claim);
            touched.extend(self.winner(&claim.key).cloned());
        }
        for claim in new.difference(old) {
            touched.extend(self.winner(&claim.key).cloned());
            self.0.insert(claim.clone());
        }
    }
}
