//! What became of traffic: counts by backend and by failure, and how long it took.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// ECONNREFUSED
    Refused,
    /// No answer in time.
    Timeout,
    /// ECONNRESET, EPIPE
    Reset,
    /// ENETUNREACH, EHOSTUNREACH
    Unreachable,
    /// EPERM, EACCES
    Denied,
    /// The peer closed before it answered.
    Closed,
    /// Someone answered who should not have, or an answer came from an address that was not asked.
    Misdirected,
    /// getpeername shows another address than was asked for.
    Peer,
    /// Anything else: see `first_error`.
    Other,
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        use nix::errno::Errno;
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Closed;
        }
        let Some(number) = error.raw_os_error() else {
            return Self::Other;
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "there are more than a hundred errnos"
        )]
        match Errno::from_raw(number) {
            Errno::ECONNREFUSED => Self::Refused,
            // A connect or a read that its socket's timeout ended.
            Errno::ETIMEDOUT | Errno::EAGAIN | Errno::EINPROGRESS => Self::Timeout,
            Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED => Self::Reset,
            Errno::ENETUNREACH | Errno::EHOSTUNREACH => Self::Unreachable,
            Errno::EPERM | Errno::EACCES => Self::Denied,
            _ => Self::Other,
        }
    }
}

/// Nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// 90 of 100 took less.
    pub p90: u64,
    /// 99 of 100 took less.
    pub p99: u64,
    /// The mean.
    pub mean: u64,
    /// The longest.
    pub max: u64,
}

impl Percentiles {
    /// Of these, if there are any. Sorts them.
    #[must_use]
    pub fn of(samples: &mut [u64]) -> Option<Self> {
        samples.sort_unstable();
        let max = *samples.last()?;
        let count = u64::try_from(samples.len()).ok()?;
        let at = |percent: usize| samples[(samples.len() - 1) * percent / 100];
        Some(Self {
            count,
            p50: at(50),
            p90: at(90),
            p99: at(99),
            mean: samples.iter().sum::<u64>() / count,
            max,
        })
    }
}

/// What became of the traffic of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Connections, datagrams, requests or pings that were begun.
    pub attempts: u64,
    /// Those that went well.
    pub answered: u64,
    /// Those that went well, by who answered.
    pub backends: BTreeMap<String, u64>,
    /// The others, by why.
    pub errors: BTreeMap<Failure, u64>,
    /// The words of the first error.
    pub first_error: Option<String>,
    /// What the verb measures: connect() itself, or the exchange.
    pub latency_ns: Option<Percentiles>,
    /// From the first attempt to the end of the last.
    pub elapsed_ns: u64,
    /// Payload sent (stream).
    pub bytes: u64,
    /// Who answered, in order (`--order`).
    pub order: Vec<String>,
    /// Each measurement, in order (`--samples`).
    pub samples_ns: Vec<u64>,
}

impl Report {
    /// How often an attempt failed so.
    #[must_use]
    pub fn failed(&self, failure: Failure) -> u64 {
        self.errors.get(&failure).copied().unwrap_or_default()
    }

    /// How often this backend answered.
    #[must_use]
    pub fn by(&self, backend: &str) -> u64 {
        self.backends.get(backend).copied().unwrap_or_default()
    }

    /// Everything went well, and there was something.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.answered > 0
    }

    /// Counts an answer.
    pub(super) fn answer(&mut self, name: &str) {
        self.answered += 1;
        match self.backends.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.backends.insert(name.to_owned(), 1);
            }
        }
    }

    /// Counts a failure.
    pub(super) fn fail(&mut self, failure: Failure, words: impl FnOnce() -> String) {
        *self.errors.entry(failure).or_default() += 1;
        self.first_error.get_or_insert_with(words);
    }

    /// Counts an error of the operating system.
    pub(super) fn fail_with(&mut self, error: &io::Error) {
        self.fail(error.into(), || error.to_string());
    }

    /// Adds what another thread saw at the same time.
    pub(super) fn merge(&mut self, other: Self) {
        self.attempts += other.attempts;
        self.answered += other.answered;
        self.bytes += other.bytes;
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        for (name, count) in other.backends {
            *self.backends.entry(name).or_default() += count;
        }
        for (failure, count) in other.errors {
            *self.errors.entry(failure).or_default() += count;
        }
        self.first_error = self.first_error.take().or(other.first_error);
        self.order.extend(other.order);
        self.samples_ns.extend(other.samples_ns);
    }

    /// Turns the measurements into percentiles.
    pub(super) fn finish(mut self, keep_samples: bool) -> Self {
        self.latency_ns = Percentiles::of(&mut self.samples_ns.clone());
        if !keep_samples {
            self.samples_ns.clear();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred() {
        let mut samples: Vec<u64> = (1..=101).rev().collect();
        let percentiles = Percentiles::of(&mut samples).unwrap();
        assert_eq!(
            (percentiles.p50, percentiles.p90, percentiles.p99),
            (51, 91, 100)
        );
        assert_eq!(
            (percentiles.mean, percentiles.max, percentiles.count),
            (51, 101, 101)
        );
        assert_eq!(Percentiles::of(&mut []), None);
    }

    #[test]
    fn merging_adds() {
        let mut one = Report::default();
        one.answer("a");
        let mut two = Report::default();
        two.answer("a");
        two.fail(Failure::Refused, || "no".to_owned());
        one.merge(two);
        assert_eq!((one.by("a"), one.failed(Failure::Refused)), (2, 1));
        assert!(!one.is_clean());
    }

    #[test]
    fn a_report_is_json_and_back() {
        let mut report = Report::default();
        report.fail(Failure::Misdirected, || "b".to_owned());
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("\"misdirected\":1"), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
