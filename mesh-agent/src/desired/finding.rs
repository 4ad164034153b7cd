//! What the agent tells a user about an object that cannot be served as written.

use crate::model::ObjectId;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Part of an object is not served as written.
    Problem,
    /// It is served as written, and that may not be what was meant; often it passes by itself.
    Note,
}

/// Something a user should know about an object, and can mend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The object.
    pub object: ObjectId,
    /// Path of the field, empty when it is the object as a whole.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub fix: String,
    /// How much it matters.
    pub weight: Weight,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.object)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.reason, self.fix)
    }
}
