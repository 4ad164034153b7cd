//! What clients saw.

use std::collections::BTreeSet;

use service_model::{Answer, Question};

use crate::traffic::{Failure, Report};

/// What a client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// These answered, each time one.
    Answered(BTreeSet<String>),
    /// Connection refused.
    Refused,
    /// Nothing.
    Silence,
    /// There is no way.
    Unreachable,
    /// The socket was forbidden to send.
    Denied,
    /// Sometimes this, sometimes that.
    Mixed(Box<Report>),
}

/// One client's view of a question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// No hook saw its socket.
    pub is_bare: bool,
    /// What the model says.
    pub wanted: Answer,
    /// What was seen.
    pub seen: Seen,
    /// Whether that is the same.
    pub agrees: bool,
}

impl Seen {
    pub(super) fn of(report: &Report) -> Self {
        let failed = |failure| report.failed(failure);
        let failures: u64 = report.errors.values().sum();
        if failures == 0 && report.answered > 0 {
            return Self::Answered(report.backends.keys().cloned().collect());
        }
        if report.answered > 0 {
            return Self::Mixed(Box::new(report.clone()));
        }
        let kinds = [
            (Failure::Refused, Self::Refused),
            (Failure::Timeout, Self::Silence),
            (Failure::Unreachable, Self::Unreachable),
            (Failure::Denied, Self::Denied),
        ];
        let kind = kinds
            .into_iter()
            .find(|(kind, _)| failed(*kind) == failures);
        kind.map_or_else(|| Self::Mixed(Box::new(report.clone())), |(_, seen)| seen)
    }
}
