//! docs/conformance.md: what became of each test in, the page out. Pure.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::{
    passes::{self, Pass},
    report::{Spec, State},
};

/// A pass and what became of its tests.
pub(super) struct Outcome {
    pub(super) pass: Pass,
    /// All of the suite's, those of other passes as not run.
    pub(super) specs: Vec<Spec>,
}

impl Outcome {
    /// How many of its tests ended so.
    pub(super) fn count(&self, state: State) -> usize {
        self.specs.iter().filter(|spec| spec.state == state).count()
    }
}

/// The page; an error if a test of the group did not run and nobody knows why.
pub(super) fn page(versions: &str, outcomes: &[Outcome]) -> Result<String> {
    let best = best(outcomes);
    let missing = not_run(&best)?;
    let mut text = format!(
        "# Kubernetes' own end-to-end tests\n\n\
         The group `sig-network` of the upstream suite, unchanged, on real nodes without kube-proxy, with the agent's \
         DaemonSet in its place. Made by `cargo xtask conformance`.\n\n{versions}\n\n"
    );
    text.push_str(&sums(outcomes));
    for state in [State::Failed, State::Skipped, State::Passed] {
        text.push_str(&section(&best, state));
    }
    text.push_str("\n## Not run\n");
    for (why, names) in missing {
        text.push_str(&format!("\n{} for one reason: {why}.\n\n", names.len()));
        for name in names {
            text.push_str(&format!("- {}\n", shown(name)));
        }
    }
    Ok(text)
}

/// Each test of the group once, as it ended in the pass that ran it. One that has failed has failed; one that applied
/// somewhere applies.
fn best(outcomes: &[Outcome]) -> BTreeMap<&str, &Spec> {
    let mut best: BTreeMap<&str, &Spec> = BTreeMap::new();
    let specs = outcomes.iter().flat_map(|outcome| &outcome.specs);
    for spec in specs.filter(|spec| passes::of_the_network(&spec.name)) {
        let known = best.entry(&spec.name).or_insert(spec);
        if spec.state < known.state {
            *known = spec;
        }
    }
    best
}

fn not_run<'a>(best: &BTreeMap<&'a str, &Spec>) -> Result<BTreeMap<&'static str, Vec<&'a str>>> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (name, spec) in best {
        match passes::reason(name) {
            _ if spec.state != State::NotRun => {}
            Some(why) => by_reason.entry(why).or_default().push(name),
            None => unknown.push(*name),
        }
    }
    ensure!(
        unknown.is_empty(),
        "no pass runs these tests and conformance/passes.rs has no reason: {}",
        unknown.join("; ")
    );
    Ok(by_reason)
}

fn sums(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| pass | what | nodes | passed | failed | skipped themselves |\n|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let counts = [State::Passed, State::Failed, State::Skipped].map(|it| outcome.count(it));
        let [passed, failed, skipped] = counts;
        let Pass {
            name, title, nodes, ..
        } = outcome.pass;
        text.push_str(&format!(
            "| {name} | {title} | {nodes} | {passed} | {failed} | {skipped} |\n"
        ));
    }
    text.push_str("\nWhich tests those are, by names (regular expressions):\n\n");
    for Outcome { pass, .. } in outcomes {
        text.push_str(&format!("- {}: `{}`", pass.name, pass.focus));
        if !pass.skip.is_empty() {
            text.push_str(&format!(", without `{}`", pass.skip));
        }
        text.push('\n');
    }
    text
}

fn section(best: &BTreeMap<&str, &Spec>, state: State) -> String {
    let specs: Vec<&&Spec> = best.values().filter(|it| it.state == state).collect();
    if specs.is_empty() {
        return String::new();
    }
    let mut word = state.word().to_owned();
    word[..1].make_ascii_uppercase();
    let mut text = format!("\n## {word}: {}\n\n", specs.len());
    for spec in specs {
        text.push_str(&format!("- {}", shown(&spec.name)));
        if !spec.message.is_empty() {
            text.push_str(&format!(": {}", spec.message));
        }
        text.push('\n');
    }
    text
}

/// Without what all names begin with.
fn shown(name: &str) -> &str {
    name.strip_prefix("[sig-network] ").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, state: State, message: &str) -> Spec {
        Spec {
            name: format!("[sig-network] {name}"),
            state,
            seconds: 1,
            message: message.to_owned(),
        }
    }

    fn outcome(specs: Vec<Spec>) -> Outcome {
        let pass = passes::PASSES[0];
        Outcome { pass, specs }
    }

    #[test]
    fn a_page_has_each_test_where_it_belongs() {
        let outcomes = [
            outcome(vec![
                spec("a", State::Passed, ""),
                spec("b", State::Skipped, "needs more"),
                spec("c", State::NotRun, ""),
                spec("d [Feature:LoadBalancer]", State::NotRun, ""),
                spec("e", State::Skipped, "needs more nodes"),
            ]),
            outcome(vec![
                spec("c", State::Failed, "broken"),
                spec("e", State::Passed, ""),
            ]),
        ];
        let page = page("v1", &outcomes).unwrap();
        assert!(page.contains("## Failed: 1\n\n- c: broken\n"), "{page}");
        assert!(
            page.contains("## Skipped: 1\n\n- b: needs more\n"),
            "{page}"
        );
        assert!(page.contains("## Passed: 2\n\n- a\n- e\n"), "{page}");
        assert!(
            page.contains("1 for one reason: needs a cloud's load balancers"),
            "{page}"
        );
    }

    #[test]
    fn a_test_that_nobody_runs_needs_a_reason() {
        let outcomes = [outcome(vec![spec("new", State::NotRun, "")])];
        let error = page("v1", &outcomes).unwrap_err().to_string();
        assert!(error.contains("[sig-network] new"), "{error}");
    }
}
