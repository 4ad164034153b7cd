//! Backends: where a service port's connections go.

use crate::{Address, Port, plain::plain};

/// Index of a backend in `backends`; 0 is no backend.
pub type BackendId = u32;

/// What may be sent to a backend. Values are stored; do not renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum BackendState {
    /// The id is free, or its endpoint is gone: nothing may use it.
    Gone = 0,
    /// New connections are welcome.
    Ready = 1,
    /// Unready, deselected or terminating: keeps what it has, gets nothing new.
    Draining = 2,
}

/// Port, state and generation of a backend in one word, so that one load sees them together.
/// From the low end: port (16, network order), state (8), zero (8), generation (32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendWord(u64);

impl BackendWord {
    /// Puts the three together.
    #[must_use]
    pub const fn new(port: Port, state: BackendState, generation: u32) -> Self {
        Self((generation as u64) << 32 | (state as u64) << 16 | port.to_be() as u64)
    }

    /// From the map.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// For the map.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The port connections go to.
    #[must_use]
    #[inline(always)]
    pub const fn port(self) -> Port {
        Port::from_be(self.0 as u16)
    }

    /// The state; an unknown number counts as gone.
    #[must_use]
    #[inline(always)]
    pub const fn state(self) -> BackendState {
        match (self.0 >> 16) as u8 {
            1 => BackendState::Ready,
            2 => BackendState::Draining,
            _ => BackendState::Gone,
        }
    }

    /// How often the id has been given out: tells an old holder of the id that it is another's now.
    #[must_use]
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[cfg(not(feature = "layout-next"))]
plain! {
    /// Value of `backends`. Each backend belongs to one service port, so its state is that port's view of it.
    #[derive(Debug)]
    pub struct Backend { address: Address, word: u64 }
}

// The second layout, which only the upgrade tests have: a word more.
#[cfg(feature = "layout-next")]
plain! {
    /// Value of `backends`. Each backend belongs to one service port, so its state is that port's view of it.
    #[derive(Debug)]
    pub struct Backend { address: Address, word: u64, spare: u64 }
}

#[cfg(feature = "layout-next")]
plain! {
    /// Value of `backends` in its first version.
    #[derive(Debug)]
    pub struct BackendV1 { address: Address, word: u64 }
}

#[cfg(feature = "layout-next")]
impl From<BackendV1> for Backend {
    fn from(old: BackendV1) -> Self {
        Self::new(old.address, BackendWord(old.word))
    }
}

impl Backend {
    /// Offset of the word within the value, for the agent's single store of a new state.
    pub const WORD_OFFSET: usize = core::mem::offset_of!(Self, word);

    /// A backend at an address.
    #[must_use]
    pub const fn new(address: Address, word: BackendWord) -> Self {
        Self {
            address,
            word: word.0,
            #[cfg(feature = "layout-next")]
            spare: 0,
        }
    }

    /// Where connections go.
    #[must_use]
    #[inline(always)]
    pub const fn address(self) -> Address {
        self.address
    }

    /// Port, state and generation.
    #[must_use]
    #[inline(always)]
    pub const fn word(self) -> BackendWord {
        BackendWord(self.word)
    }
}
