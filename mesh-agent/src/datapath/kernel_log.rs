//! What the programs of a development build say, in the agent's log: lines of the ring buffer in, events under
//! [`TARGET`] out.

use std::{thread, time::Duration};

use aya::Ebpf;
use aya_log::EbpfLogger;

use super::DatapathError;

/// Where the lines are in the log: `--log-level info,mesh_agent::kernel=debug` shows all of them.
const TARGET: &str = "mesh_agent::kernel";
/// How often the ring buffer is read. Nobody waits for these lines.
const EVERY: Duration = Duration::from_millis(100);

/// Reads on for as long as the agent runs. Programs that it leaves behind go on writing until the buffer is full.
pub(super) fn follow(object: &mut Ebpf) -> Result<(), DatapathError> {
    let failed = |reason: String| DatapathError::Load {
        object: "the programs' log".to_owned(),
        reason,
    };
    let mut logger =
        EbpfLogger::init_with_logger(object, Events).map_err(|error| failed(error.to_string()))?;
    let reader = thread::Builder::new().name("kernel-log".to_owned());
    let started = reader.spawn(move || {
        loop {
            logger.flush();
            thread::sleep(EVERY);
        }
    });
    started.map(drop).map_err(|error| failed(error.to_string()))
}

/// From the log facade to ours.
struct Events;

impl log::Log for Events {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args();
        match record.level() {
            log::Level::Error | log::Level::Warn | log::Level::Info => {
                tracing::info!(target: TARGET, "{line}");
            }
            log::Level::Debug | log::Level::Trace => tracing::debug!(target: TARGET, "{line}"),
        }
    }

    fn flush(&self) {}
}
