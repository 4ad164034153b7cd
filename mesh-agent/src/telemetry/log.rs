//! The log: to stderr, as text or as JSON lines, at a level that can be changed while the agent runs.

use std::io::{self, IsTerminal};

use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// The words are no level.
#[derive(Debug, thiserror::Error)]
#[error(
    "{directives:?} is no log level: {reason}. Give error, warn, info, debug, trace, or target=level pairs"
)]
pub struct LevelError {
    directives: String,
    reason: String,
}

/// Changes the level of the log that is running.
#[derive(Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Starts the log of this process.
    ///
    /// # Errors
    /// The level cannot be parsed.
    pub fn start(directives: &str, json: bool) -> Result<Self, LevelError> {
        let (filter, handle) = reload::Layer::new(parse(directives)?);
        let registry = tracing_subscriber::registry().with(filter);
        if json {
            registry
                .with(
                    fmt::layer()
                        .json()
                        .flatten_event(true)
                        .with_writer(io::stderr),
                )
                .init();
        } else {
            let layer = fmt::layer()
                .with_ansi(io::stderr().is_terminal())
                .with_target(false)
                .with_writer(io::stderr);
            registry.with(layer).init();
        }
        Ok(Self(handle))
    }

    /// Changes the level.
    ///
    /// # Errors
    /// The level cannot be parsed.
    pub fn set(&self, directives: &str) -> Result<(), LevelError> {
        let filter = parse(directives)?;
        let failed = |error: reload::Error| LevelError {
            directives: directives.to_owned(),
            reason: error.to_string(),
        };
        self.0.reload(filter).map_err(failed)
    }
}

fn parse(directives: &str) -> Result<EnvFilter, LevelError> {
    let failed = |reason: String| LevelError {
        directives: directives.to_owned(),
        reason,
    };
    // A bare word that is no level would be taken for a target's name, and silence everything else.
    let is_level = |word: &str| {
        !word.is_empty() && word.parse::<tracing::level_filters::LevelFilter>().is_ok()
    };
    if let Some(word) = directives
        .split(',')
        .find(|word| !word.contains('=') && !is_level(word))
    {
        return Err(failed(format!("{word:?} is unknown")));
    }
    EnvFilter::try_new(directives).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives() {
        for good in ["info", "warn,mesh_agent::source=debug", "off"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "mesh_agent=loud"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
