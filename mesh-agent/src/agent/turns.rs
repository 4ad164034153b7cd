//! Whose turn it is to program. The source's thread programs what it brings: waking another thread for it costs more than
//! the writes do when all processors are busy. The engine's thread does what falls due without a change: retries, ids that
//! have rested, housekeeping.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    housekeeping::Housekeeping,
    programmer::{IDLE, Programmer},
};
use crate::{interfaces::Update, source::Batch};

/// How soon housekeeping asks again whether the programs are in force.
const NOT_YET: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Turns {
    turn: Mutex<Turn>,
    /// The engine's thread has to wake up before it meant to.
    sooner: Condvar,
}

/// What belongs to whoever programs.
struct Turn {
    programmer: Programmer,
    /// When something falls due without a change.
    due: Instant,
    ended: bool,
}

impl Turns {
    pub(super) fn new(programmer: Programmer) -> Self {
        Self {
            turn: Mutex::new(Turn {
                due: Instant::now() + IDLE,
                programmer,
                ended: false,
            }),
            sooner: Condvar::new(),
        }
    }

    /// The source's turn. What could be written is when this returns: a source is never further ahead than that.
    pub(super) fn take(&self, batch: Batch) {
        self.program(|programmer| programmer.take(batch));
    }

    /// The turn of who follows the interfaces.
    pub(super) fn follow(&self, update: Update) {
        self.program(|programmer| programmer.follow(update));
    }

    fn program(&self, work: impl FnOnce(&mut Programmer) -> Duration) {
        let mut turn = self.turn();
        let before = turn.due;
        let pause = work(&mut turn.programmer);
        turn.due = Instant::now() + pause;
        if turn.due < before {
            self.sooner.notify_one();
        }
    }

    /// No batch will come any more.
    pub(super) fn end(&self) {
        self.turn().ended = true;
        self.sooner.notify_one();
    }

    /// The engine's thread, until the end.
    pub(super) fn run(&self, mut housekeeping: Housekeeping) {
        let mut chores = Instant::now() + NOT_YET;
        while let Some(in_force) = self.wait(chores) {
            let pause = if in_force {
                housekeeping.run(Instant::now())
            } else {
                NOT_YET
            };
            chores = Instant::now() + pause;
            if pause.is_zero() {
                self.turn().due = chores;
            }
        }
    }

    /// Writes what falls due until it is time for housekeeping; whether the programs are in force by then. None at the end.
    fn wait(&self, chores: Instant) -> Option<bool> {
        let mut turn = self.turn();
        loop {
            let now = Instant::now();
            if turn.ended {
                return None;
            }
            if turn.due <= now {
                let pause = turn.programmer.step(None);
                turn.due = Instant::now() + pause;
            }
            if chores <= now {
                return Some(turn.programmer.is_committed());
            }
            let pause = turn.due.min(chores).saturating_duration_since(now);
            let woken = self.sooner.wait_timeout(turn, pause);
            turn = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
