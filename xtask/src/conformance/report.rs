//! ginkgo's report of a run: its JSON in, what became of each test out. Pure.

use anyhow::{Context, Result};
use serde_json::Value;

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It failed, timed out or was broken off.
    Failed,
    Passed,
    /// It found out by itself that it does not apply.
    Skipped,
    /// It was not asked for.
    NotRun,
}

impl State {
    /// For people.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Passed => "passed",
            Self::NotRun => "not run",
        }
    }
}

/// A test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    /// With the names of all groups that it is in.
    pub(super) name: String,
    pub(super) state: State,
    pub(super) seconds: u64,
    /// Why it failed or does not apply: the first line.
    pub(super) message: String,
}

/// Every test of a report, the ones that were not asked for included.
pub(super) fn specs(report: &str) -> Result<Vec<Spec>> {
    let report: Value = serde_json::from_str(report).context("ginkgo's report is no JSON")?;
    let suites = report.as_array().context("ginkgo's report is no list")?;
    let reports = suites.iter().filter_map(|it| it["SpecReports"].as_array());
    let specs = reports.flatten().filter(|it| it["LeafNodeType"] == "It");
    Ok(specs.map(spec).collect())
}

fn spec(report: &Value) -> Spec {
    let groups = report["ContainerHierarchyTexts"].as_array();
    let texts = groups
        .into_iter()
        .flatten()
        .chain([&report["LeafNodeText"]]);
    let texts: Vec<&str> = texts.filter_map(Value::as_str).collect();
    let message = report["Failure"]["Message"].as_str().unwrap_or_default();
    Spec {
        name: texts.join(" "),
        state: state(report["State"].as_str().unwrap_or_default(), message),
        seconds: report["RunTime"].as_u64().unwrap_or_default() / 1_000_000_000,
        message: message.lines().next().unwrap_or_default().to_owned(),
    }
}

/// ginkgo says "skipped" of both kinds; a test that skips itself gives a reason.
fn state(word: &str, message: &str) -> State {
    match word {
        "passed" => State::Passed,
        "skipped" if !message.is_empty() => State::Skipped,
        "skipped" | "pending" => State::NotRun,
        _ => State::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: &str, message: &str) -> String {
        let spec = serde_json::json!({
            "ContainerHierarchyTexts": ["[sig-network] Services", "group"],
            "LeafNodeType": "It",
            "LeafNodeText": "should work",
            "State": state,
            "RunTime": 2_500_000_000_u64,
            "Failure": {"Message": message},
        });
        serde_json::json!([{"SpecReports": [spec, {"LeafNodeType": "BeforeSuite"}]}]).to_string()
    }

    #[test]
    fn a_test_has_its_groups_in_its_name() {
        let specs = specs(&report("passed", "")).unwrap();
        assert_eq!(specs.len(), 1);
        assert_eq!(specs[0].name, "[sig-network] Services group should work");
        assert_eq!((specs[0].state, specs[0].seconds), (State::Passed, 2));
    }

    #[test]
    fn a_test_that_skips_itself_says_why() {
        let of = |state, message| specs(&report(state, message)).unwrap().remove(0);
        assert_eq!(
            of("skipped", "needs a cloud\nmore").message,
            "needs a cloud"
        );
        assert_eq!(of("skipped", "needs a cloud").state, State::Skipped);
        assert_eq!(of("skipped", "").state, State::NotRun);
        assert_eq!(of("timedout", "").state, State::Failed);
    }
}
