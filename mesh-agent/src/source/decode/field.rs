//! Why an object, or a part of it, is not taken.

/// What is wrong with which field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Path of the field.
    pub(super) field: String,
    /// What is wrong.
    pub(super) reason: String,
    /// What to do.
    pub(super) fix: &'static str,
}

impl Rejected {
    pub(super) fn new(
        field: impl Into<String>,
        reason: impl Into<String>,
        fix: &'static str,
    ) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
            fix,
        }
    }
}

/// A port as Kubernetes has it: 1 to 65535.
pub(super) fn port(field: impl Fn() -> String, number: i32) -> Result<u16, Rejected> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err(Rejected::new(
            field(),
            format!("{number} is no port"),
            "give 1 to 65535",
        )),
    }
}
