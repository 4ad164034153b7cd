//! The thread that takes flows that are over out of `flows`, and once puts right what they hold of earlier tables: it reads the whole map, which with a million flows takes too
//! long for a thread that has changes to write.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::attach::Attachments;
use crate::datapath::{self, Collected, DatapathError, Reader};

/// Until what flows hold is right, from one look to the next whether programs are in force.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// From one collection to the next.
const PAUSE: Duration = Duration::from_secs(15);
/// The same while little room is left.
const SHORT_PAUSE: Duration = Duration::from_secs(3);
/// A pause is so many times as long as the collection took: no more than a hundredth of a processor goes into it.
const SHARE: u32 = 100;

/// The running thread.
pub(super) struct Collector {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Collector {
    /// Begins.
    pub(super) fn start(reader: Reader, attachments: Arc<Attachments>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("collector".to_owned());
        let thread = thread.spawn(move || run(&reader, &attachments, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Ends, and waits for it.
    pub(super) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("a thread broke down: a defect, please report it");
        }
    }
}

fn run(reader: &Reader, attachments: &Attachments, stopped: &Receiver<()>) {
    let mut pause = FIRST_PAUSE;
    let mut rebound = false;
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        // Before that the programs in force go by other tables.
        if !rebound {
            rebound = attachments.is_applied() && rebind(reader);
            continue;
        }
        let began = Instant::now();
        let collected = collect(reader);
        let took = began.elapsed();
        pause = match collected {
            Ok(collected) => {
                tracing::debug!(
                    entries = collected.looked_at,
                    deleted = collected.deleted,
                    "flows collected"
                );
                next_pause(collected, took)
            }
            Err(error) => {
                tracing::warn!("{error}; collecting again later");
                PAUSE
            }
        };
    }
}

fn rebind(reader: &Reader) -> bool {
    match reader.rebind_flows() {
        Ok(flows) => {
            tracing::info!(flows, "flows that stood hold the ids of the new tables");
            true
        }
        Err(error) => {
            tracing::warn!("{error}; putting flows right later");
            false
        }
    }
}

fn collect(reader: &Reader) -> Result<Collected, DatapathError> {
    reader.collect_flows(datapath::monotonic_seconds())
}

/// A table with little room left is looked at more often.
fn next_pause(collected: Collected, took: Duration) -> Duration {
    let pause = if collected.is_short {
        SHORT_PAUSE
    } else {
        PAUSE
    };
    pause.max(took * SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nearly_full_map_is_looked_at_more_often() {
        let after = |is_short, milliseconds| {
            let collected = Collected {
                is_short,
                ..Collected::default()
            };
            next_pause(collected, Duration::from_millis(milliseconds))
        };
        assert_eq!(after(false, 1), PAUSE);
        assert_eq!(after(true, 1), SHORT_PAUSE);
        assert_eq!(after(true, 60), Duration::from_secs(6));
    }
}
