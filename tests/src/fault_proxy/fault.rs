//! The faults, and what each means for a connection. Pure.

/// What happens to those who call the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: all bytes pass.
    #[default]
    None,
    /// Nobody listens, and open connections are closed.
    Refuse,
    /// Connections are accepted and stay open, and nothing ever comes. Afterwards they go on.
    BlackHole,
    /// Each request is answered with status 500.
    ServerErrors,
    /// What the server sends arrives at one byte a second.
    Slow,
    /// Each watch works for a second and then ends with 410 Gone; everything else works.
    Gone,
}

/// What is done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// Bytes pass.
    Free,
    /// Bytes to the client pass slowly.
    Trickle,
    /// Bytes wait.
    Held,
    /// TLS ends here, and requests are answered or forwarded one by one.
    Answer,
    /// It is closed.
    Cut,
}

impl Fault {
    pub(super) const fn treatment(self) -> Treatment {
        match self {
            Self::None => Treatment::Free,
            Self::Slow => Treatment::Trickle,
            Self::BlackHole => Treatment::Held,
            Self::ServerErrors | Self::Gone => Treatment::Answer,
            Self::Refuse => Treatment::Cut,
        }
    }
}
