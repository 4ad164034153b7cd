//! Where objects come from: manifests in, changes of the model's objects out. Kubernetes' own types do not leave here.

pub mod decode;
pub mod dir;
mod problem;

use std::time::Instant;

pub use problem::Problem;

use crate::model::Change;

/// What a source tells at once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What changed, in order.
    pub changes: Vec<Change>,
    /// Every problem there is now; None when they are as they were.
    pub problems: Option<Vec<Problem>>,
    /// When the event that this comes from was seen.
    pub received: Instant,
}
