//! `status`: one screen of health, now or once the agent is ready. A Service that does not fit makes no agent unready:
//! the others are served.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use super::{
    CliError, Verdict,
    args::StatusArgs,
    table::{Table, bytes},
    terminal::{Paint, Terminal},
};
use crate::{
    admin::client::Client,
    telemetry::{
        escape::escape,
        view::{CheckLevel, Document, ProblemView, StatusView},
    },
};

const POLL: Duration = Duration::from_millis(200);

pub(super) fn run(
    client: &Client,
    args: &StatusArgs,
    terminal: &mut Terminal<'_>,
) -> Result<Verdict, CliError> {
    let deadline = args.wait.then(|| Instant::now() + args.timeout);
    let status = poll(client, deadline)?;
    terminal.show(args.output.output, &status, table)?;
    Ok(Verdict::from(status.content.ready))
}

/// The status, once it says ready or the time is up. With a deadline an agent that is not there yet is waited for too.
fn poll(client: &Client, deadline: Option<Instant>) -> Result<Document<StatusView>, CliError> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let client = left.map_or_else(|| client.clone(), |left| client.within(left));
        let status: Result<Document<StatusView>, _> = client.get("/v1/status");
        let fine = status.as_ref().is_ok_and(|status| status.content.ready);
        let more = deadline.is_some_and(|deadline| Instant::now() < deadline);
        if fine || !more {
            return Ok(status?);
        }
        thread::sleep(left.map_or(POLL, |left| left.min(POLL)));
    }
}

pub(super) fn table(status: &StatusView, paint: &Paint) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        writeln!(text, "{name:10}  {value}").unwrap_or_default();
    };
    line("Agent", readiness(status, paint));
    line(
        "Version",
        format!(
            "{}, pid {}, up {}",
            escape(&status.version),
            status.pid,
            uptime(status.uptime_seconds)
        ),
    );
    line("Node", escape(&status.node_name).into_owned());
    line("Source", escape(&status.source).into_owned());
    for watch in status
        .watches
        .iter()
        .filter(|watch| watch.stale_seconds > 0)
    {
        line(
            "Stale",
            format!(
                "{} since {}: {}",
                escape(&watch.kind),
                uptime(watch.stale_seconds),
                escape(
                    watch
                        .error
                        .as_deref()
                        .unwrap_or("the API server says nothing")
                )
            ),
        );
    }
    line("Cgroup", escape(&status.cgroup).into_owned());
    if !status.waiting_for.is_empty() {
        line(
            "Waiting",
            format!("for {}", escape(&status.waiting_for.join(", "))),
        );
    }
    line(
        "Services",
        format!(
            "{}, {} ports, {} backends, {} not yet written",
            status.services, status.service_ports, status.backends, status.dirty
        ),
    );
    if status.kept > 0 {
        line(
            "Kept",
            format!(
                "{} service ports of an earlier run: what they come from cannot be read yet",
                status.kept
            ),
        );
    }
    if status.sockets_destroyed > 0 {
        line(
            "Destroyed",
            format!(
                "{} connected sockets whose backend was gone",
                status.sockets_destroyed
            ),
        );
    }
    text.push_str(&format!("\n{}\n{}", programs(status), maps(status)));
    text.push_str(&problems(&status.problems));
    text
}

fn readiness(status: &StatusView, paint: &Paint) -> String {
    if !status.ready {
        let reason = status.reason.as_deref().unwrap_or("no reason given");
        return format!(
            "{}: {}",
            paint.level(CheckLevel::Error, "not ready"),
            escape(reason)
        );
    }
    if status.dirty > 0 {
        return paint.level(CheckLevel::Warn, "ready, with Services not yet written");
    }
    paint.level(CheckLevel::Ok, "ready")
}

fn uptime(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

fn programs(status: &StatusView) -> String {
    let mut table = Table::new(&["PROGRAM", "ATTACHED", "PINNED", "RUNS", "MEAN NS"]);
    for program in &status.programs {
        let runs = program.run_count;
        let mean = runs
            .zip(program.run_time_ns)
            .and_then(|(runs, time)| time.checked_div(runs));
        table.row([
            program.name.clone(),
            yes(program.attached),
            yes(program.pinned),
            number(runs),
            number(mean),
        ]);
    }
    table.render()
}

fn maps(status: &StatusView) -> String {
    let mut table = Table::new(&["MAP", "VERSION", "ENTRIES", "CAPACITY", "MEMORY", "PINNED"]);
    for map in &status.maps {
        table.row([
            map.name.clone(),
            map.version.to_string(),
            number(map.entries),
            map.capacity.to_string(),
            bytes(map.bytes),
            yes(map.pinned),
        ]);
    }
    table.render()
}

/// Problems one a line; nothing when there is none.
pub(super) fn problems(problems: &[ProblemView]) -> String {
    let mut text = String::new();
    if !problems.is_empty() {
        text.push_str(&format!("\nProblems ({})\n", problems.len()));
    }
    for problem in problems {
        let places = [&problem.file, &problem.object, &problem.field].map(|it| escape(it));
        let places = places.into_iter().filter(|place| !place.is_empty());
        let mut parts: Vec<_> = places.collect();
        parts.push(escape(&problem.reason));
        text.push_str(&format!("  {}", parts.join(": ")));
        if !problem.fix.is_empty() {
            text.push_str(&format!("; {}", escape(&problem.fix)));
        }
        text.push('\n');
    }
    text
}

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}
