//! `cargo test`, shown as it runs, with the counts taken from its result lines.

use std::process::Command;

use anyhow::Result;

use super::Outcome;
use crate::run;

/// Cargo with the arguments of a test run that goes on through failures.
pub(super) fn command() -> Command {
    let mut command = run::cargo();
    command.args(["test", "--locked", "--no-fail-fast"]);
    command
}

/// The same, with the tests themselves run as root.
pub(super) fn as_root() -> Command {
    let mut command = command();
    if !run::is_root() {
        let variable = format!(
            "CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER",
            std::env::consts::ARCH.to_uppercase()
        );
        command.env(variable, "sudo --preserve-env");
    }
    command
}

/// Runs it. That it failed without a failed test (it does not compile, a test process died) counts as one failure.
pub(super) fn run(command: &mut Command) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let status = run::watch(command, |line| {
        println!("{line}");
        if let Some((passed, failed)) = counts(line) {
            outcome.passed += passed;
            outcome.failed += failed;
        }
    })?;
    if !status.success() && outcome.failed == 0 {
        outcome.failed = 1;
    }
    Ok(outcome)
}

/// Passed and failed, from a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn counts(line: &str) -> Option<(u32, u32)> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut parts = rest.split("; ");
    let passed = parts.next()?.strip_suffix(" passed")?;
    let failed = parts.next()?.strip_suffix(" failed")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read_and_others_are_not() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(counts(line), Some((12, 3)));
        assert_eq!(counts("test result is good"), None);
        assert_eq!(counts("test some::test ... ok"), None);
    }

    #[test]
    fn a_test_process_that_dies_is_a_failure() {
        let outcome = run(Command::new("sh").args([
            "-c",
            "echo 'test result: ok. 2 passed; 0 failed; 0'; exit 3",
        ]));
        let outcome = outcome.unwrap();
        assert_eq!((outcome.passed, outcome.failed), (2, 1));
    }
}
