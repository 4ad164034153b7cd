//! `test`: runs the lanes, all or those named, on through failures. A lane that cannot run here is SKIPPED with the
//! reason, which under CI counts as failed. The last line on stdout is the sum over all lanes.

mod cargo;
mod lanes;

use anyhow::Result;

use crate::{run, setup};
pub(crate) use lanes::Lane;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which lanes; all when none is named
    #[arg(value_enum)]
    lanes: Vec<Lane>,
    /// Many more cases of each property test, and the slow tests too
    #[arg(long)]
    long: bool,
}

/// What became of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    passed: u32,
    failed: u32,
    skipped: Option<String>,
}

impl Outcome {
    fn skipped(why: String) -> Self {
        Self {
            skipped: Some(why),
            ..Self::default()
        }
    }
}

/// The verb.
pub(crate) fn test(arguments: &Arguments) -> Result<()> {
    let lanes = if arguments.lanes.is_empty() {
        Lane::ALL.to_vec()
    } else {
        arguments.lanes.clone()
    };
    setup::ensure(
        lanes
            .iter()
            .map(|lane| lane.need())
            .max()
            .unwrap_or(setup::Need::Build),
    )?;
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let mut outcomes = Vec::new();
    for lane in lanes {
        run::say(&format!("lane {}", lane.name()));
        outcomes.push((lane, outcome(lane, arguments.long)));
    }
    let (summary, failed) = summary(&outcomes, ci);
    print!("{summary}");
    std::process::exit(i32::from(failed > 0));
}

/// A lane that breaks down counts as one failure, and the others still run.
fn outcome(lane: Lane, long: bool) -> Outcome {
    if let Some(why) = lane.obstacle() {
        return Outcome::skipped(why);
    }
    lane.run(long).unwrap_or_else(|error| {
        println!("lane {}: {error:#}", lane.name());
        Outcome {
            failed: 1,
            ..Outcome::default()
        }
    })
}

/// The table and the sum, and how many failed.
fn summary(outcomes: &[(Lane, Outcome)], ci: bool) -> (String, u32) {
    let mut text = String::from("\nlane          passed failed\n");
    let (mut passed, mut failed) = (0, 0);
    for (lane, outcome) in outcomes {
        let lost = u32::from(ci && outcome.skipped.is_some());
        passed += outcome.passed;
        failed += outcome.failed + lost;
        let name = lane.name();
        text.push_str(&match &outcome.skipped {
            Some(why) if ci => format!("{name:<13} FAILED: must not be skipped under CI: {why}\n"),
            Some(why) => format!("{name:<13} SKIPPED: {why}\n"),
            None => format!("{name:<13} {:>6} {:>6}\n", outcome.passed, outcome.failed),
        });
    }
    text.push_str(&format!("{passed} passed, {failed} failed\n"));
    (text, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> Vec<(Lane, Outcome)> {
        vec![
            (
                Lane::Unit,
                Outcome {
                    passed: 5,
                    failed: 1,
                    skipped: None,
                },
            ),
            (Lane::Lab, Outcome::skipped("needs root".to_owned())),
        ]
    }

    #[test]
    fn the_last_line_is_the_sum() {
        let (text, failed) = summary(&outcomes(), false);
        assert!(text.ends_with("\n5 passed, 1 failed\n"), "{text}");
        assert!(text.contains("SKIPPED: needs root"), "{text}");
        assert_eq!(failed, 1);
    }

    #[test]
    fn under_ci_a_skipped_lane_is_a_failed_one() {
        let (text, failed) = summary(&outcomes(), true);
        assert!(text.ends_with("\n5 passed, 2 failed\n"), "{text}");
        assert_eq!(failed, 2);
    }
}
