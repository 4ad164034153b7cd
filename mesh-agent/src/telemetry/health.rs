//! What probes ask: alive, ready, healthy. Set by the agent's threads, read by the servers; nothing here blocks.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

/// The agent's health.
#[derive(Debug)]
pub struct Health {
    ready: AtomicBool,
    /// When the maps were last what they should be.
    updated: Mutex<SystemTime>,
    /// Why it is not ready.
    waiting_for: Mutex<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            ready: AtomicBool::new(false),
            updated: Mutex::new(SystemTime::now()),
            waiting_for: Mutex::new("the first full list of every kind".to_owned()),
        }
    }
}

impl Health {
    /// The first full state is programmed and attached.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether it ever was.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Says why it is not ready.
    pub fn wait_for(&self, what: &str) {
        if let Ok(mut waiting_for) = self.waiting_for.lock() {
            what.clone_into(&mut waiting_for);
        }
    }

    /// Why it is not ready.
    #[must_use]
    pub fn waiting_for(&self) -> String {
        self.waiting_for
            .lock()
            .map(|what| what.clone())
            .unwrap_or_default()
    }

    /// The maps are what they should be, now.
    pub fn set_updated(&self) {
        if let Ok(mut updated) = self.updated.lock() {
            *updated = SystemTime::now();
        }
    }

    /// When they last were.
    #[must_use]
    pub fn updated(&self) -> SystemTime {
        self.updated
            .lock()
            .map_or(SystemTime::UNIX_EPOCH, |updated| *updated)
    }
}
