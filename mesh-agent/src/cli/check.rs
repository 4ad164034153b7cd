//! `check`: the host's probes, and the agent's own word unless `--pre` asks for the host alone. One line each: a stable
//! code, what was found, and the fix.

use std::path::PathBuf;

use super::{Verdict, table::Table, terminal::Paint};
use crate::{
    admin::client::{Client, ClientError},
    telemetry::view::{CheckLevel, CheckView, Document, Items, StatusView},
};

/// What the agent says of itself.
pub(super) struct Agent {
    pub(super) checks: Vec<CheckView>,
    /// Where its programs are attached; None if it does not say.
    pub(super) cgroup: Option<PathBuf>,
}

/// Asks the agent.
pub(super) fn agent(client: &Client) -> Agent {
    let status: Result<Document<StatusView>, ClientError> = client.get("/v1/status");
    match status {
        Err(error) => Agent {
            checks: vec![CheckView {
                code: "MESH120".to_owned(),
                level: CheckLevel::Error,
                object: "agent".to_owned(),
                what: error.to_string(),
                fix: "check the host alone with `mesh-agent check --pre`".to_owned(),
            }],
            cgroup: None,
        },
        Ok(status) => Agent {
            checks: of_status(&status.content),
            cgroup: Some(PathBuf::from(status.content.cgroup)),
        },
    }
}

fn of_status(status: &StatusView) -> Vec<CheckView> {
    let check =
        |code: &str, object: &str, finding: Option<(CheckLevel, String, &str)>, fine: &str| {
            let (level, what, fix) = finding.unwrap_or((CheckLevel::Ok, fine.to_owned(), ""));
            CheckView {
                code: code.to_owned(),
                level,
                object: object.to_owned(),
                what,
                fix: fix.to_owned(),
            }
        };
    let not_ready = (!status.ready).then(|| {
        let reason = status.reason.clone().unwrap_or_default();
        let fix = "wait with `mesh-agent status --wait`, or look at the agent's log";
        (CheckLevel::Error, format!("not ready: {reason}"), fix)
    });
    let dirty = (status.dirty > 0).then(|| {
        let what = format!("{} Services are not yet written", status.dirty);
        (
            CheckLevel::Warn,
            what,
            "`mesh-agent status` says which and why",
        )
    });
    let problems = (!status.problems.is_empty()).then(|| {
        let what = format!("{} problems with objects", status.problems.len());
        (CheckLevel::Warn, what, "`mesh-agent status` lists them")
    });
    vec![
        check("MESH121", "agent", not_ready, "ready"),
        check("MESH122", "services", dirty, "all written"),
        check("MESH123", "objects", problems, "no problems"),
    ]
}

/// Fine unless something is wrong enough for `run` to refuse.
pub(super) fn verdict(checks: &[CheckView]) -> Verdict {
    Verdict::from(checks.iter().all(|check| check.level < CheckLevel::Error))
}

pub(super) fn table(checks: &Items<CheckView>, paint: &Paint) -> String {
    let mut table = Table::new(&["LEVEL", "CODE", "OBJECT", "FOUND", "FIX"]);
    for check in &checks.items {
        table.row([
            check.level.name(),
            &check.code,
            &check.object,
            &check.what,
            &check.fix,
        ]);
    }
    let text = table.render();
    let mut lines = text.lines();
    let mut painted = lines
        .next()
        .map_or_else(String::new, |it| format!("{it}\n"));
    for (line, check) in lines.zip(&checks.items) {
        let word = check.level.name();
        let rest = line.strip_prefix(word).unwrap_or(line);
        painted.push_str(&format!("{}{rest}\n", paint.level(check.level, word)));
    }
    let count = |level| checks.items.iter().filter(|it| it.level == level).count();
    painted.push_str(&format!(
        "{} ok, {} warnings, {} errors\n",
        count(CheckLevel::Ok),
        count(CheckLevel::Warn),
        count(CheckLevel::Error)
    ));
    painted
}
