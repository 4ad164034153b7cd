//! What all clients are told: whom to call, how, how often.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{
    report::{Failure, Report},
    socket,
    until::Until,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Transport {
    /// TCP
    Tcp,
    /// Connected UDP sockets.
    Udp,
    /// UDP sockets that sendto.
    UdpUnconnected,
}

#[derive(Debug, clap::Args)]
pub(super) struct CallArgs {
    /// Whom to call, by address or by name; given again, they are called in turn.
    #[arg(long, required = true, value_parser = socket::resolve)]
    to: Vec<SocketAddr>,
    #[arg(long, value_enum, default_value = "tcp")]
    pub(super) protocol: Transport,
    /// Use an AF_INET6 socket for an IPv4 address too.
    #[arg(long)]
    mapped: bool,
    /// End after so many.
    #[arg(long)]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long)]
    duration: Option<f64>,
    /// At most so many a second and thread.
    #[arg(long)]
    rate: Option<u32>,
    /// Threads that do the same at the same time.
    #[arg(long, default_value_t = 1)]
    parallel: usize,
    /// Milliseconds to wait for each answer.
    #[arg(long, default_value_t = 5000)]
    timeout: u64,
    /// Names of those who may answer begin so; may be given again.
    #[arg(long)]
    expect: Vec<String>,
    /// Send all datagrams through one socket: by one port.
    #[arg(long)]
    pub(super) keep_socket: bool,
    /// End at the first failure.
    #[arg(long)]
    pub(super) stop_at_failure: bool,
    /// Say who answered, in order.
    #[arg(long)]
    pub(super) order: bool,
    /// Say each measurement, in order.
    #[arg(long)]
    samples: bool,
}

impl CallArgs {
    /// Whom to call at this attempt, in the family of the sockets.
    pub(super) fn target(&self, attempt: u64) -> SocketAddr {
        let index = usize::try_from(attempt).unwrap_or_default() % self.to.len();
        if self.mapped {
            return socket::mapped(self.to[index]);
        }
        self.to[index]
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }

    /// Whether this one may answer.
    pub(super) fn expects(&self, name: &str) -> bool {
        self.expect.is_empty() || self.expect.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Counts an answer, as misdirected if it is someone else's.
    pub(super) fn note(&self, report: &mut Report, name: &str) {
        if !self.expects(name) {
            report.fail(Failure::Misdirected, || format!("{name} answered"));
            return;
        }
        report.answer(name);
        if self.order {
            report.order.push(name.to_owned());
        }
    }

    /// Runs the work in all threads and adds up what they saw.
    pub(super) fn in_parallel(
        &self,
        work: impl Fn(&Until) -> Report + Send + Sync,
    ) -> Result<Report> {
        let duration = self.duration.map(Duration::try_from_secs_f64).transpose()?;
        let until = Until::new(self.count, duration, self.rate)?;
        let begin = Instant::now();
        let mut total = Report::default();
        let outcome: Result<()> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.parallel)
                .map(|_| scope.spawn(|| work(&until)))
                .collect();
            for thread in threads {
                total.merge(
                    thread
                        .join()
                        .map_err(|_| anyhow!("a client thread failed"))?,
                );
            }
            Ok(())
        });
        outcome?;
        total.elapsed_ns = nanoseconds(begin.elapsed());
        Ok(total.finish(self.samples))
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
