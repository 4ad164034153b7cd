//! Logs: one line an event on stderr, as text or JSON, at a level that can be changed while the agent runs.
//!
//! A line stays a line and a terminal stays as it is, whatever a manifest puts into a name: control characters are
//! escaped.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
    str::FromStr,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};
use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    layer::{Context, SubscriberExt},
    reload,
};

use super::{escape::escape, timestamp};

/// What went wrong with logging.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error(
        "log level {given:?}: {part:?} is no level; use error, warn, info, debug, trace or off, or TARGET=LEVEL, \
         several separated by commas"
    )]
    Level {
        /// What was given.
        given: String,
        /// The part of it that is wrong.
        part: String,
    },
    /// Something set up logging before.
    #[error("logging is set up already: {0}")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The level cannot be changed.
    #[error("the log level cannot be changed: {0}; restart the agent with --log-level")]
    Reload(#[from] reload::Error),
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object a line: ts (milliseconds since 1970), level, target, msg, and the event's fields.
    Json,
}

/// What is logged: `info`, or levels by target such as `info,mesh_agent::engine=debug`.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    text: String,
    targets: Targets,
}

impl Default for Level {
    /// info
    fn default() -> Self {
        Self {
            text: "info".to_owned(),
            targets: Targets::new().with_default(LevelFilter::INFO),
        }
    }
}

impl FromStr for Level {
    type Err = LogError;

    fn from_str(given: &str) -> Result<Self, LogError> {
        let mut targets = Targets::new();
        for part in given.split(',') {
            let wrong = || LogError::Level {
                given: given.to_owned(),
                part: part.to_owned(),
            };
            let (target, level) = part.split_once('=').unwrap_or(("", part));
            let level = level_filter(level).ok_or_else(wrong)?;
            targets = match (target, part.contains('=')) {
                ("", true) => return Err(wrong()),
                (_, false) => targets.with_default(level),
                (target, true) => targets.with_target(target, level),
            };
        }
        Ok(Self {
            text: given.to_owned(),
            targets,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// By word alone: tracing takes numbers too, with the sense opposite to that of Kubernetes' -v.
fn level_filter(word: &str) -> Option<LevelFilter> {
    Some(match word.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// From the next event on.
    pub fn set(&self, level: &Level) -> Result<(), LogError> {
        Ok(self.0.reload(level.targets.clone())?)
    }
}

/// Logs to stderr from now on; once a process.
pub fn init(format: Format, level: &Level) -> Result<LogHandle, LogError> {
    let (subscriber, handle) = subscriber(format, level, io::stderr());
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(handle)
}

fn subscriber<W: Write + Send + 'static>(
    format: Format,
    level: &Level,
    writer: W,
) -> (impl Subscriber + Send + Sync, LogHandle) {
    let (filter, handle) = reload::Layer::new(level.targets.clone());
    let lines = Lines {
        format,
        writer: Mutex::new(writer),
    };
    (
        tracing_subscriber::registry().with(filter).with(lines),
        LogHandle(handle),
    )
}

struct Lines<W> {
    format: Format,
    writer: Mutex<W>,
}

impl<S: Subscriber, W: Write + Send + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = SystemTime::now();
        let mut line = match self.format {
            Format::Text => text(now, event.metadata(), &fields),
            Format::Json => json(now, event.metadata(), fields),
        };
        line.push('\n');
        let mut writer = match self.writer.lock() {
            Ok(writer) => writer,
            Err(poisoned) => poisoned.into_inner(),
        };
        // There is nobody to tell that stderr is gone.
        writer.write_all(line.as_bytes()).unwrap_or_default();
    }
}

fn text(now: SystemTime, metadata: &tracing::Metadata<'_>, fields: &Fields) -> String {
    let mut line = format!(
        "{} {:5} {}: {}",
        timestamp::rfc3339(now),
        metadata.level(),
        metadata.target(),
        escape(&fields.message)
    );
    for (name, value) in &fields.others {
        let shown = match value.as_str() {
            Some(string) if is_bare(string) => string.to_owned(),
            Some(string) => escape(&format!("{string:?}")).into_owned(),
            None => value.to_string(),
        };
        // Writing to a string cannot fail.
        write!(line, " {name}={shown}").unwrap_or_default();
    }
    line
}

/// Whether a value needs no quotes.
fn is_bare(value: &str) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|it| it.is_ascii_graphic() && !matches!(it, '"' | '=' | '\\'))
}

fn json(now: SystemTime, metadata: &tracing::Metadata<'_>, fields: Fields) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut object = fields.others;
    // Ours last, so that no field can take their place.
    object.insert("ts".into(), (since.as_secs_f64() * 1_000.0).into());
    let level = metadata.level().as_str().to_ascii_lowercase();
    object.insert("level".into(), level.into());
    object.insert("target".into(), metadata.target().into());
    object.insert("msg".into(), fields.message.into());
    Value::Object(object).to_string()
}

/// An event's fields, the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, level: &str, act: impl FnOnce(&LogHandle)) -> String {
        let buffer = Buffer::default();
        let (subscriber, handle) = subscriber(format, &level.parse().unwrap(), buffer.clone());
        tracing::subscriber::with_default(subscriber, || act(&handle));
        buffer.text()
    }

    #[test]
    fn json_has_the_keys_of_kubernetes() {
        let log = logged(Format::Json, "info", |_| {
            tracing::warn!(object = "default/web", count = 3, ts = "mine", "left out");
        });
        let line: Value = serde_json::from_str(&log).unwrap();
        assert_eq!(line["msg"], "left out");
        assert_eq!(line["level"], "warn");
        assert_eq!(line["object"], "default/web");
        assert_eq!(line["count"], 3);
        assert!(line["ts"].is_f64() && line["target"].is_string(), "{line}");
        assert_eq!(log.lines().count(), 1);
    }

    #[test]
    fn text_stays_on_its_line() {
        let log = logged(Format::Text, "info", |_| {
            tracing::info!(file = %"a\n\u{1b}[31m", port = 80, "bad\u{1b}[2J\nname");
        });
        assert_eq!(log.lines().count(), 1);
        assert!(!log.contains('\u{1b}'), "{log:?}");
        assert!(
            log.contains(" INFO ") && log.contains(" port=80"),
            "{log:?}"
        );
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let log = logged(Format::Text, "warn", |handle| {
            tracing::info!("one");
            handle.set(&"debug".parse().unwrap()).unwrap();
            tracing::debug!("two");
            handle.set(&"error,other=trace".parse().unwrap()).unwrap();
            tracing::warn!("three");
            tracing::trace!(target: "other", "four");
        });
        let shown = ["one", "two", "three", "four"].map(|word| log.contains(word));
        assert_eq!(shown, [false, true, false, true], "{log}");
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for wrong in ["", "loud", "5", "info,", "=info", "a=loud", "info,loud"] {
            let error = wrong.parse::<Level>().unwrap_err().to_string();
            assert!(error.contains("debug"), "{error}");
        }
        for right in ["INFO", "off", "a::b=trace", "warn,a=info"] {
            assert_eq!(right.parse::<Level>().unwrap().to_string(), right);
        }
    }
}
