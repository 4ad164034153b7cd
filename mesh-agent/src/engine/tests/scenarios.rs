//! Text scenarios: objects in, expected tables out. `words.rs` has the language; besides
//!
//!     # a comment
//!     step                 what stands above it comes in one batch (a blank line does the same)
//!     wait MILLISECONDS
//!     restart              a new agent takes over
//!     = LINE               all lines of the tables as they are now, in order; `= nothing` for none
//!
//! Frontends are `10.96.0.1:80/TCP -> TARGETS`, with `affinity N` if there is one, `external` for one that is for clients
//! from anywhere, `from RANGES` for one with ranges and `outside TARGETS` where clients outside are led elsewhere; whole addresses `10.96.0.1 refused`;
//! then `draining TARGET`, and what users are told as `! TEXT`. Each scenario is also run with its batches' changes in
//! reverse order.

use std::{fmt::Write as _, net::SocketAddr};

use super::*;
use crate::desired::Target;

#[test]
fn scenarios() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        for reversed in [false, true] {
            Run::new(&path.display().to_string(), reversed).all(&text);
        }
    }
}

struct Run {
    world: World,
    file: String,
    reversed: bool,
    batch: Vec<String>,
    expected: Vec<String>,
}

impl Run {
    fn new(file: &str, reversed: bool) -> Self {
        Self {
            world: World::new(ROOMY),
            file: format!("{file} (reversed: {reversed})"),
            reversed,
            batch: Vec::new(),
            expected: Vec::new(),
        }
    }

    fn all(&mut self, text: &str) {
        for (number, line) in text.lines().chain([""]).enumerate() {
            let line = line.trim();
            match line.strip_prefix("= ") {
                Some(expected) => {
                    self.flush();
                    self.expected.push(expected.to_owned());
                }
                None => {
                    self.compare(number);
                    self.line(line);
                }
            }
        }
    }

    fn line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some(word) if word.starts_with('#') => {}
            None | Some("step") => self.flush(),
            Some("wait") => {
                self.flush();
                let millis = words.next().unwrap().parse().unwrap();
                self.world.wait(Time::from_millis(millis));
            }
            Some("restart") => {
                self.flush();
                self.world.restart(|_| {});
                self.world.step();
            }
            Some(_) => self.batch.push(line.to_owned()),
        }
    }

    fn flush(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return;
        }
        if self.reversed {
            batch.reverse();
        }
        for line in &batch {
            self.world.change(line);
        }
        self.world.step();
        self.world.check();
    }

    fn compare(&mut self, number: usize) {
        let mut expected = std::mem::take(&mut self.expected);
        if expected.is_empty() {
            return;
        }
        expected.retain(|line| line != "nothing");
        let tables = tables(&self.world);
        let tables: Vec<&str> = tables.lines().collect();
        assert_eq!(tables, expected, "{} before line {}", self.file, number + 1);
    }
}

fn tables(world: &World) -> String {
    let mut text = String::new();
    let kernel = world.kernel();
    let affinities = world.reference.affinities();
    let routes = kernel.routes();
    for ((key, _), targets) in routes.iter().filter(|((_, outside), _)| !outside) {
        if key.is_whole_address() {
            writeln!(text, "{} refused", key.address()).unwrap();
            continue;
        }
        let socket = SocketAddr::from((key.address().to_ip(), key.port().get()));
        let protocol = if key.protocol() == 6 { "TCP" } else { "UDP" };
        write!(text, "{socket}/{protocol} ->").unwrap();
        for target in targets {
            write!(text, " {}", socket_of(target)).unwrap();
        }
        if affinities[key] > 0 {
            write!(text, " affinity {}", affinities[key]).unwrap();
        }
        let value = kernel.frontends[key];
        let mut ranges = kernel.ranges_of(value.service()).peekable();
        match (value.is_external(), value.has_source_ranges()) {
            (false, _) => {}
            (true, false) if value.is_for_host() => text.push_str(" host"),
            (true, false) => text.push_str(" external"),
            (true, true) => text.push_str(" from"),
        }
        while let Some(range) = ranges.next_if(|_| value.has_source_ranges()) {
            write!(text, " {}", crate::telemetry::dump::range(*range)).unwrap();
        }
        let outside = &routes[&(*key, true)];
        if outside != targets {
            text.push_str(" outside");
            for target in outside {
                write!(text, " {}", socket_of(target)).unwrap();
            }
        }
        text.push('\n');
    }
    let draining = kernel
        .backends
        .values()
        .filter(|backend| backend.word().state() == BackendState::Draining)
        .map(|backend| Target {
            address: backend.address(),
            port: backend.word().port(),
        });
    let mut draining: Vec<Target> = draining.collect();
    draining.sort();
    for target in draining {
        writeln!(text, "draining {}", socket_of(&target)).unwrap();
    }
    for finding in world.engine.findings() {
        writeln!(text, "! {finding}").unwrap();
    }
    text
}

fn socket_of(target: &Target) -> SocketAddr {
    (target.address.to_ip(), target.port.get()).into()
}
